"""The backend over Windows' own completion ports."""

"""What tests share comes from netpoll's plugin, which other people's backends use as well."""

# pytester runs small suites of their own, in the tests of that plugin
pytest_plugins = ["netpoll.testing.plugin", "pytester"]

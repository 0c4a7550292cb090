/* python.exe for a CPython that comes as a DLL only: all of the interpreter is in there.
   Compiled by tools/wine_python.py, with PYTHON_DLL naming that file. */

#include <stdio.h>
#include <windows.h>

typedef int (*main_function)(int, wchar_t **);

int wmain(int argc, wchar_t **argv)
{
    HMODULE python = LoadLibraryW(PYTHON_DLL);
    if (!python) {
        fwprintf(stderr, L"cannot load %ls: error %lu\n", PYTHON_DLL, GetLastError());
        return 126;
    }
    main_function run = (main_function)(void *)GetProcAddress(python, "Py_Main");
    if (!run) {
        fwprintf(stderr, L"%ls has no Py_Main\n", PYTHON_DLL);
        return 127;
    }
    return run(argc, argv);
}

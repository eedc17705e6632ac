# Runs inside the sandbox, before the program:
#   python3 -I -B -c <this> <control fd> <work dir> <name of the results folder> <figures.py> [module ...]
# It imports next to nothing, because each import is paid by every execution that finds no warm Pod.
import os
import sys
from _frozen_importlib_external import PathFinder, SourceFileLoader
from _weakref import ref

# The interpreter does not own a reference to the module that it runs, and sys.modules is about to lose its.
_own_module = sys.modules["__main__"]
_control = int(sys.argv[1])
_work_dir = sys.argv[2]
_results = os.path.join(_work_dir, sys.argv[3])
_figures = {"folder": _results, "pid": os.getpid(), "source": sys.argv[4]}
_names = sys.argv[5:]
_path = os.path.join(_work_dir, "main.py")
_source = None


class _Finder:
    # Asked for each module that nobody has imported before. It knows one, of which it must not miss the moment.
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "matplotlib.pyplot":
            if "find_spec" not in _figures:
                exec(compile(_figures["source"], "figures.py", "exec"), _figures)
            return _figures["find_spec"](name, path, target)


def _fail(message):
    os.write(_control, b"E" + message.encode("utf-8", "replace")[:1000])
    os._exit(1)


class _Loader(SourceFileLoader):
    def get_source(self, fullname):
        return _source


def _new_main():
    main = type(sys)("__main__")
    main.__dict__.update(
        __builtins__=sys.modules["builtins"],
        __annotations__={},
        __cached__=None,
        __file__=_path,
        __loader__=_Loader("__main__", _path),
    )
    sys.modules["__main__"] = main
    return ref(main)


def _preload(names):
    for name in names:
        try:
            __import__(name)
            # What it printed has to be out before the program's output is counted.
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException as error:
            _fail(f"module {name} can't be preloaded: {type(error).__name__}: {error}")


def _forget_warnings():
    # One that is shown once has to be shown to the program, which did not see it.
    getattr(sys.modules["_warnings"], "_onceregistry", {}).clear()
    for module in [*sys.modules.values()]:
        try:
            del module.__dict__["__warningregistry__"]
        except Exception:
            pass  # it has warned of nothing, or is a class or whatever else that stands for a module


def _settle(main):
    # What is there by now need not be looked through and taken apart when the interpreter ends: with pandas that is
    # most of the time that a short program takes. The program's own has to be, so it must be younger, unless a module
    # has got hold of it.
    del sys.modules["__main__"]
    taken = main()
    if taken is None:
        was_imported = "gc" in sys.modules
        import gc

        gc.freeze()
        if not was_imported:
            del sys.modules["gc"]
        main = _new_main()
    else:
        sys.modules["__main__"] = taken
    # A circle: where something that is not taken apart holds a function of the program's, and with that its names,
    # the module is still there at the end. Then the interpreter clears it, and what it names ends as for any script.
    module = main()
    module.__loader__.module = module


def _receive():
    received = bytearray()
    while piece := os.read(_control, 1 << 16):
        received += piece
    if not received:
        os._exit(0)  # the runner is gone
    at = 0
    while at < len(received):
        size = int.from_bytes(received[at : at + 4], "little")
        yield bytes(received[at + 4 : at + 4 + size])
        at += 4 + size


def _write(path, content, flags):
    fd = os.open(path, flags | os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        while content:
            content = content[os.write(fd, content) :]
    finally:
        os.close(fd)


def _write_input(path, content):
    folders = path.split("/")
    if not path or any(part in ("", ".", "..") for part in folders):
        _fail(f"input file {path!r} is not below the work directory")
    try:
        for depth in range(1, len(folders)):
            try:
                os.mkdir(os.path.join(_work_dir, *folders[:depth]))
            except FileExistsError:
                pass
        _write(os.path.join(_work_dir, path), content, os.O_TRUNC)
    except (OSError, ValueError) as error:
        _fail(f"failed to write input file {path!r}: {error}")


def _prepare():
    fields = _receive()
    text = lambda: next(fields).decode()
    several = lambda: range(int(text()))
    source = text()
    sys.argv += [text() for _ in several()]
    sys.orig_argv += sys.argv[1:]
    for _ in several():
        name, value = text(), text()
        try:
            os.environ[name] = value
        except (OSError, ValueError) as error:
            _fail(f"failed to set environment variable {name!r}: {error}")
    for _ in several():
        _write_input(text(), next(fields))
    # Written to without further ado. An input file may have made it, or be called so.
    try:
        os.mkdir(_results)
    except OSError:
        pass
    # A script has a file, and its own processes and threads look into it: multiprocessing to start from it,
    # the interpreter for the lines of a thread's traceback. An input file of that name stays as it is.
    try:
        _write(_path, source.encode(), os.O_EXCL)
    except OSError:
        pass
    os.chdir(_work_dir)
    sys.path.insert(0, _work_dir)
    # A preloaded module may have looked into the folder, and a date is too coarse to tell that it has changed since.
    sys.path_importer_cache.pop(_work_dir, None)
    os.close(_control)
    # After that: its file may be one of the program's own.
    if "TZ" in os.environ:
        import time

        time.tzset()
    # As the file's decoder would: compile() takes a byte order mark for a character of the program.
    return source.removeprefix("\ufeff")


def _rendered(error, trace):
    try:
        import linecache
        import traceback

        # From memory: the file may be gone, or be another.
        lines = _source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        linecache.cache["main.py"] = (len(_source), None, [line + "\n" for line in lines], "main.py")
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:
        return None  # no memory for the module, or a __str__ that raises: the interpreter's own way copes


def _trim(error, trace):
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    hook = sys.excepthook
    # Not in the hook: the modules that this imports run eval(), at which the interpreter forgets that it has to
    # die of SIGINT after a KeyboardInterrupt.
    text = None
    # By its type, not by what a class of the program's own says that it is.
    if hook is sys.__excepthook__ and not issubclass(type(error), SystemExit):
        text = _rendered(error, trace)

    def trimmed(kind, error, _):
        sys.excepthook = hook
        _with_traceback(error, trace)
        if text is None:
            hook(kind, error, trace)
        elif sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()

    sys.excepthook = trimmed


def _save_figures():
    # There is nothing of it where nobody has imported pyplot.
    if "save_open" in _figures:
        _figures["save_open"]()


_with_traceback = BaseException.with_traceback
sys.argv = ["main.py"]
sys.orig_argv = [sys.executable, *sys.argv]
# Whole lines go out when they are printed, so that a program which is killed has shown what it did.
sys.stdout.reconfigure(line_buffering=True)
# Before the one that would find it.
sys.meta_path.insert(sys.meta_path.index(PathFinder), _Finder)
_figures["finder"] = _Finder
# Modules that look at the program's when they are imported have to find it.
_main = _new_main()
_preload(_names)
_forget_warnings()
_settle(_main)
os.write(_control, f"R{sys.version.split()[0]}\n".encode())
_source = _prepare()
try:
    # Text, not bytes: a coding cookie must not make another program of it than the one that was checked.
    exec(compile(_source, "main.py", "exec", dont_inherit=True), sys.modules["__main__"].__dict__)
except BaseException as _error:
    try:
        # Who is interrupted wants to go at once.
        if not issubclass(type(_error), KeyboardInterrupt):
            _save_figures()
    except BaseException:
        pass  # as below
    try:
        _trim(_error, sys.exc_info()[2])
    except BaseException:
        pass  # the program's end is its own exception, whatever its classes do to those who look at it
    # From here on everything is as for any script: exit codes, threads, atexit, SIGINT.
    raise
try:
    _save_figures()
except BaseException:
    pass  # the program has found this module, and taken it apart

# Run by the bootstrap when a program imports pyplot: what is drawn comes back without savefig.
#
# Plots that are shown, and those that are still open at the program's end, become pictures among its results. The
# backend stays what the environment says, for the program's own processes inherit that.
#
# It is run with these names: finder, which is among sys.meta_path until pyplot is there; folder, the results'; pid, the
# process that the runner started.
import io
import os
import sys
from _frozen_importlib_external import PathFinder

# How many pictures are made of one program.
_MOST = 16
# A picture of more has no use, and making it takes four bytes for each, several times.
_MOST_PIXELS = 16_000_000
_pyplot = None
# The names of those that there are.
_saved = set()


def find_spec(name, path, target):
    spec = PathFinder.find_spec(name, path, target)
    loader = getattr(spec, "loader", None)

    def exec_module(module):
        del loader.exec_module
        loader.exec_module(module)
        _take(module)

    # A frame of the import system's own in the interpreter's eyes, so that it is in no traceback of the program's.
    exec_module.__code__ = exec_module.__code__.replace(co_filename="<frozen importlib._bootstrap>")
    try:
        loader.exec_module = exec_module
    except AttributeError:
        pass  # nothing was found, or by a loader of the program's own
    return spec


def _take(module):
    global _pyplot
    try:
        show.__doc__, show.__module__ = module.show.__doc__, module.__name__
        # What else is called so may be the program's own.
        module.get_fignums, module.close, module.isinteractive
        sys.meta_path.remove(finder)
        module.show, _pyplot = show, module
    except BaseException:
        pass  # it is another module, or the program has other finders


def show(*args, block=None, **kwargs):
    # The windows that it would open are closed when it comes back, unless it does so at once.
    if _pyplot.isinteractive() if block is None else not block:
        return
    _save_all()
    _pyplot.close("all")


def save_open():
    # A copy of the program that came to its end as well has the same figures.
    if _pyplot is not None and os.getpid() == pid:
        _save_all()


def _save_all():
    try:
        numbers = _pyplot.get_fignums()
    except BaseException as error:
        return _tell("the figures could not be found", error)
    for number in numbers:
        if len(_saved) == _MOST:
            return _tell(f"only {_MOST} figures are saved", None)
        try:
            _save(_pyplot.figure(number))
        except BaseException as error:
            _tell(f"figure {number} could not be saved", error)


def _save(figure):
    dpi = _pyplot.rcParams["savefig.dpi"]
    width, height = figure.get_size_inches() * (figure.dpi if dpi == "figure" else dpi)
    if width * height > _MOST_PIXELS:
        raise ValueError(f"{width:.0f} x {height:.0f} pixels are too many")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    if not _is_there(picture.getvalue()):
        _write(picture.getvalue())


def _is_there(picture):
    # The program has saved it there itself.
    if not os.path.isdir(folder):
        return False
    for entry in os.scandir(folder):
        if entry.name not in _saved and entry.is_file(follow_symlinks=False) and entry.stat().st_size == len(picture):
            with open(entry, "rb") as file:
                if file.read() == picture:
                    return True
    return False


def _write(picture):
    os.makedirs(folder, exist_ok=True)
    number = 1
    while os.path.lexists(os.path.join(folder, f"figure-{number}.png")):
        number += 1
    name = f"figure-{number}.png"
    path = os.path.join(folder, name)
    with open(path, "xb") as file:
        try:
            file.write(picture)
            file.flush()
        except BaseException:
            os.unlink(path)  # half of a picture is none
            raise
    _saved.add(name)


def _tell(what, error):
    try:
        why = "" if error is None else f": {type(error).__name__}: {error}"
        sys.stderr.write(" ".join(f"codeexec: {what}{why}".split())[:300] + "\n")
        sys.stderr.flush()
    except BaseException:
        pass  # the program has closed it, or the error can't say what it is

"""Run at every start of the interpreter (codeexec.pth imports it), so it has to stay tiny.

matplotlib wants a writable folder for its font list. Given a read-only one it warns, and given an empty
one it searches all fonts again, which is 0.3 s of CPU. So the list made with the image is put where the
program may write.
"""

import os


def _seed_font_list():
    target = os.environ.setdefault("MPLCONFIGDIR", "/tmp/.matplotlib")
    source = "/usr/local/lib/codeexec/matplotlib"
    try:
        os.mkdir(target)
        for name in os.listdir(source):
            with open(f"{source}/{name}", "rb") as font_list, open(f"{target}/{name}", "wb") as copy:
                copy.write(font_list.read())
    except OSError:
        pass  # there already, or nowhere to write: matplotlib copes, only slower


_seed_font_list()

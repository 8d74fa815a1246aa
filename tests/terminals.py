"""A command at a terminal of its own, of known size."""

import codecs
import os
import re
import select
import struct
import sys
import time

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[78]")


def resize(fd, rows, columns):
    import fcntl
    import termios

    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, *args, columns=100, rows=30):
        import pty  # which Windows lacks

        self.pid, self.fd = pty.fork()
        if not self.pid:
            time.sleep(0.05)  # for its size to be set
            environment = {**os.environ, "TERM": "xterm"}
            environment.pop("COLUMNS", None)
            environment.pop("LINES", None)
            # execve: readline, which pytest imports, sets both behind the back of os.environ
            os.execve(sys.executable, [sys.executable, "-m", "xtrack_protocol.cli", *map(str, args)], environment)
        resize(self.fd, rows, columns)
        self.text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # letters come in pieces, and Ctrl-C cuts them

    def read(self, until=None, seconds=20):
        deadline = time.monotonic() + seconds
        while until is None or until not in self.text:
            assert time.monotonic() < deadline, self.text
            if not select.select([self.fd], [], [], 0.1)[0]:
                continue
            try:
                chunk = os.read(self.fd, 65536)
            except OSError:
                break
            if not chunk:
                break
            self.text += self._decoder.decode(chunk)
        return self.text

    def press(self, keys):
        os.write(self.fd, keys)

    def end(self):
        self.read()
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def look(*args, **size):
    terminal = Terminal(*args, **size)
    code = terminal.end()
    assert code == 0, terminal.text
    return ESCAPES.sub("", terminal.text).replace("\r\n", "\n")

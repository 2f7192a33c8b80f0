# SPDX-License-Identifier: Apache-2.0
"""The Python runner: keeps functions loaded and calls them, one at a time, for weft-worker.

It speaks the frames of proto/SPEC.md, section 7: calls come in on descriptor 3, results leave on 4. Descriptor 5, when it
is there, is shared memory into which all that functions print goes (two rings, see Capture), so that the worker still has it
when the function takes the process down with it.

This one file is all that an image needs beside Python >= 3.6; dill is imported only when a payload asks for it. It must not
be __main__ while functions run: pickled functions refer to names in __main__, which is theirs, hence main_module_give_up.
"""
import base64
import binascii
import fcntl
import io
import json
import mmap
import os
import pickle
import struct
import sys
import time
import traceback
import types

FD_IN, FD_OUT, FD_CAPTURE = 3, 4, 5
MAX_FRAME = 192 << 20
READ_BYTES = 1 << 16
LARGE = 1 << 15
TAIL = 1 << 16                  # bytes of stdout, stderr and error that are kept
RING = 8 + TAIL                 # u64 count of all bytes ever written in this call, then the ring
CURRENT = 2 * RING              # then the id of the task whose call has begun
SHARED = CURRENT + 16
NO_TASK = b"\xff" * 16          # there before the first call

STATUS_SUCCESS, STATUS_FAILED = 1, 2
FAULT_NONE, FAULT_USER, FAULT_SITE, FAULT_SELF = 0, 1, 2, 4
INVALID, EXCEPTION, MEMORY, DECODE, ENCODE, TOO_LARGE, MODULE, RUNNER = 2, 20, 24, 25, 26, 27, 30, 31
KIND_GLOBUS, KIND_PYTHON = 1, 2
FLAG_JSON = 1                   # the payload is JSON text made by the service
FLAG_BULK = 2                   # the payload is a reference to a file of the bulk store
FLAG_AS_JSON = 8                # the result as 11, if that can be
FLAG_AS_ALL = 16                # and as 13, next
FLAG_OWN_DIR = 256              # the call runs in the directory that the worker made for it
FLAG_ENVIRON = 512              # it has an environment of its own, on top of ours
RESULT_BULK = 4                 # the result is one
BULK_MIN = 32768                # results over it go there
NOT_FOUND, IO = 5, 14
RAISES_MAX = 64                 # of a batch, see Runner.call_batch

FUNCTION = struct.Struct("<HBB16sIIQHH")     # what has been appended since follows; of that only PYTHON is ours to know
PYTHON = struct.Struct("<BB")   # minor and major version that the function was made with; 0 = unknown
PYTHON_AT = 64
FUNCTION_BYTECODE = 8
CALL = struct.Struct("<16s16sII")
BATCH = struct.Struct("<16sIII")
INPUT = struct.Struct("<16sI")
RESULT = struct.Struct("<IB16sBBHqqQQB3xIIII")
LENGTH = struct.Struct("<I")
COUNT = struct.Struct("<Q")
REFERENCE = struct.Struct("<I") # size of the data; then its name
SEGMENT_HEAD = struct.Struct("<4sI16s8x")       # of a result in a segment of the store: magic, size, task
SEGMENT_MAGIC, SEGMENT_MAX, SEGMENT_AGE_S, PAGE = b"WSR1", 64 << 20, 60, 4096
AHEAD_MIN, AHEAD_MAX = 256 << 10, 4 << 20       # bytes of a segment from which on blocks are reserved, and how many at most
FALLOC_FL_KEEP_SIZE = 1
SLOT_HEAD, SLOT_MAGIC, SLOT_DATA, SLOT_WAYS = struct.Struct("<4sI16s16sQ"), b"WPS1", 64, 8
SLOTS = (("slots-0", 128, 256 << 10), ("slots-1", 64, 2 << 20))
START = struct.Struct("<IB16sq")

VERSION = "%d.%d.%d" % sys.version_info[:3]
MALLOC = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")    # set by the worker, see python.c
DIR = os.path.dirname(os.path.abspath(__file__))
NODE = os.environ.get("WEFT_NODE") or os.uname()[1]

now_ns = getattr(time, "time_ns", None) or (lambda: int(time.time() * 1e9))
cpu_ns = getattr(time, "process_time_ns", None) or (lambda: int(time.process_time() * 1e9))
try:
    import resource

    def max_rss():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
except ImportError:
    def max_rss():
        return 0


class Fail(Exception):
    """A failure with a code of its own; the text is shown as it is."""

    def __init__(self, code, fault, text):
        Exception.__init__(self, text)
        self.code, self.fault, self.text = code, fault, text


# ---- what functions print -------------------------------------------------------------------------------------------

class Capture(io.TextIOBase):
    """sys.stdout or sys.stderr of functions: the last TAIL bytes of each call, in memory shared with the worker."""

    encoding = "utf-8"
    errors = "replace"
    newlines = None
    mode = "w"

    def __init__(self, memory, offset, fd, name):
        io.TextIOBase.__init__(self)
        self.memory, self.base, self.ring = memory, offset, offset + 8
        self.fd, self.name, self.total = fd, name, 0
        self.buffer = CaptureBytes(self)

    def begin(self):
        if self.total:
            self.total = 0
            COUNT.pack_into(self.memory, self.base, 0)

    def put(self, data):
        n = len(data)
        keep = data[-TAIL:] if n > TAIL else data
        at = (self.total + n - len(keep)) % TAIL
        first = min(len(keep), TAIL - at)
        self.memory[self.ring + at:self.ring + at + first] = keep[:first]
        if first < len(keep):
            self.memory[self.ring:self.ring + len(keep) - first] = keep[first:]
        self.total += n
        COUNT.pack_into(self.memory, self.base, self.total)

    def tail(self):
        if not self.total:
            return b""
        if self.total <= TAIL:
            return self.memory[self.ring:self.ring + self.total]
        at = self.total % TAIL
        return self.memory[self.ring + at:self.ring + TAIL] + self.memory[self.ring:self.ring + at]

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not %s" % type(text).__name__)
        self.put(text.encode("utf-8", "replace"))
        return len(text)

    def writable(self):
        return True

    def fileno(self):
        return self.fd

    def close(self):
        pass                    # a function that closes sys.stdout must not take it from the next one


class CaptureBytes(io.RawIOBase):
    """The `buffer` of a Capture, for functions that write bytes."""

    def __init__(self, owner):
        io.RawIOBase.__init__(self)
        self.owner = owner

    def write(self, data):
        data = bytes(data)
        self.owner.put(data)
        return len(data)

    def writable(self):
        return True

    def fileno(self):
        return self.owner.fd

    def close(self):
        pass


def capture_memory():
    try:
        if os.fstat(FD_CAPTURE).st_size >= SHARED:
            memory = mmap.mmap(FD_CAPTURE, SHARED)
            os.close(FD_CAPTURE)
            return memory
    except (OSError, ValueError):
        pass
    return mmap.mmap(-1, SHARED)


# ---- globus_compute_sdk.sdk.shell_function, for images that do not have the package -----------------------------------

SHIM_NAMES = ("globus_compute_sdk", "globus_compute_sdk.sdk", "globus_compute_sdk.sdk.shell_function",
              "globus_compute_sdk.sdk.mpi_function")


class ShellResult:
    """What a shell function returns; has the fields of globus_compute_sdk's class of this name."""

    def __init__(self, cmd, stdout, stderr, returncode, exception_name=None):
        self.cmd, self.stdout, self.stderr = cmd, stdout, stderr
        self.returncode, self.exception_name = returncode, exception_name

    def __str__(self):
        return "Command %s returned with exit status: %s" % (self.cmd, self.returncode)

    def __repr__(self):
        return "%s(returncode=%s, cmd=%s)" % (type(self).__name__, self.returncode, self.cmd)


class ShellFunction:
    """Runs its command line with /bin/bash. Unlike the original, a command over its walltime is killed with its group; where the SDK is
    installed, its own class gets this way to run a command (own_shell)."""

    prefix = ""
    stdout = stderr = walltime = None
    snippet_lines = 1000
    return_dict = False

    def __init__(self, cmd, stdout=None, stderr=None, walltime=None, snippet_lines=1000, return_dict=False):
        self.cmd, self.stdout, self.stderr = cmd, stdout, stderr
        self.walltime, self.snippet_lines, self.return_dict = walltime, snippet_lines, return_dict

    @property
    def __name__(self):
        return "%s: %s" % (type(self).__name__, self.cmd)

    def __call__(self, **kwargs):
        return self.execute_cmd_line(self.prefix + self.cmd.format(**kwargs))

    def execute_cmd_line(self, cmd):
        import signal
        import subprocess
        out, errout = ShellFunction._open(self.stdout), ShellFunction._open(self.stderr)
        sandbox = os.environ.get("GC_TASK_SANDBOX_DIR")
        if sandbox:
            os.makedirs(sandbox, exist_ok=True)
        exception_name = None
        with out, errout:
            child = subprocess.Popen(["/bin/bash", "-c", cmd], stdin=subprocess.DEVNULL, stdout=out, stderr=errout,
                                     cwd=sandbox or None, preexec_fn=os.setpgrp)
            try:
                returncode = child.wait(timeout=self.walltime)
                if returncode != 0:
                    exception_name = "subprocess.CalledProcessError"
            except subprocess.TimeoutExpired:
                returncode, exception_name = 124, "subprocess.TimeoutExpired"
                ShellFunction._kill(child, signal, subprocess)
            texts = ShellFunction._snippet(self, out), ShellFunction._snippet(self, errout)
        result = getattr(sys.modules.get(SHIM_NAMES[2]), "ShellResult", ShellResult)(cmd, texts[0], texts[1], returncode, exception_name)
        return dict(vars(result)) if getattr(self, "return_dict", False) else result     # SDKs before 3 have none

    @staticmethod
    def _kill(child, signal, subprocess):
        try:
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(timeout=1)
            except subprocess.TimeoutExpired:
                pass
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()

    @staticmethod
    def _open(path):
        if path is None:
            import tempfile
            return tempfile.TemporaryFile()
        if os.path.dirname(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        return open(path, "ab+")

    def _snippet(self, f):
        size = f.seek(0, 2)
        f.seek(max(0, size - (8 << 20)))
        lines = f.read().decode("utf-8", "replace").splitlines(True)
        return "".join(lines[-self.snippet_lines:] if self.snippet_lines else [])


class MPIFunction(ShellFunction):
    prefix = "$PARSL_MPI_PREFIX "

    def __call__(self, resource_specification=None, **kwargs):
        return ShellFunction.__call__(self, **kwargs)


def own_shell(function):
    """The SDK's ShellFunction ends its wait at the walltime, and leaves the command running."""
    for c in type(function).__mro__:
        if c.__name__ == "ShellFunction" and c.__module__ == SHIM_NAMES[2]:
            c.execute_cmd_line = ShellFunction.execute_cmd_line
    return function


class ShimFinder:
    """Last on sys.meta_path, so it is asked only for what is not installed."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in SHIM_NAMES:
            return None
        from importlib.machinery import ModuleSpec
        return ModuleSpec(name, ShimFinder, origin="weft", is_package=name in SHIM_NAMES[:2])

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        if module.__name__ in SHIM_NAMES[:2]:
            module.__path__ = []
            if module.__name__ == SHIM_NAMES[0]:
                module.ShellFunction, module.ShellResult, module.MPIFunction = ShellFunction, ShellResult, MPIFunction
            return
        module.ShellFunction, module.ShellResult, module.MPIFunction = ShellFunction, ShellResult, MPIFunction


ShellFunction.__module__ = ShellResult.__module__ = SHIM_NAMES[2]
MPIFunction.__module__ = SHIM_NAMES[3]


# ---- serialised objects of Globus Compute ---------------------------------------------------------------------------

def packed_buffers(text):
    """The parts of a packed buffer. Lengths count characters, so `text` is str unless it is all ASCII."""
    parts, at, end = [], 0, len(text)
    newline = b"\n" if isinstance(text, bytes) else "\n"
    while at < end:
        stop = text.find(newline, at, at + 12)
        digits = text[at:stop]
        if stop < 0 or not digits.isdigit():
            raise Fail(DECODE, FAULT_USER, "malformed packed buffer: no length at character %d" % at)
        at = stop + 1
        n = int(digits)
        if n > end - at:
            raise Fail(DECODE, FAULT_USER, "malformed packed buffer: %d characters announced at %d, %d left" % (n, at, end - at))
        parts.append(text[at:at + n])
        at += n
    return parts


def text_of(data):
    """bytes when all ASCII (characters are bytes then, and nothing is copied), else str."""
    data = bytes(data)
    if isascii(data):
        return data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise Fail(DECODE, FAULT_USER, "serialised object is not UTF-8 text: %s" % e)


def isascii(data):
    try:
        return data.isascii()   # since 3.7
    except AttributeError:
        return not data or max(data) < 128


def as_str(text):
    return text if isinstance(text, str) else text.decode("ascii")


def dill_module():
    import dill
    return dill


def load_pickle(body):
    """dill writes plain pickles unless it meets what pickle cannot do: those need no dill, and load in C."""
    try:
        raw = binascii.a2b_base64(body)
    except (binascii.Error, ValueError) as e:
        raise Fail(DECODE, FAULT_USER, "malformed base64: %s" % e)
    if b"dill" not in raw and b"__main__" not in raw and b"__builtin__" not in raw:
        return pickle.loads(raw)
    return dill_module().loads(raw)


def load_code_pickle(body):
    try:
        return own_shell(dill_module().loads(binascii.a2b_base64(body)))
    except binascii.Error as e:
        raise Fail(DECODE, FAULT_USER, "malformed base64: %s" % e)


def function_of_source(name, source):
    import linecache
    import textwrap
    filename = "<function %s>" % name
    try:
        code = compile(source, filename, "exec")
    except IndentationError:
        source = textwrap.dedent(source)
        code = compile(source, filename, "exec")
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    # Classes that it defines are then pickled with their body: the submitter has no such module.
    space = {"__name__": "__main__"}
    exec(code, space)
    if name not in space:
        raise Fail(DECODE, FAULT_USER, "the source does not define '%s'" % name)
    return space[name]


def load_named_source(body):
    """(name, source) as a dill pickle: ids 03 and 04."""
    name, source = load_pickle(body)
    return function_of_source(name, source)


def load_text_source(body):
    """name:source, in newer SDKs as base64, whose alphabet has no colon."""
    text = as_str(body)
    if ":" not in text:
        text = base64.b64decode(text).decode("utf-8")
    name, source = text.split(":", 1)
    return function_of_source(name, source)


def load_first(parts):
    """What can be decoded first; when nothing can, the reason of the last one, which needs the most."""
    last = None
    for part in parts:
        try:
            return load_object(part)
        except Exception as e:
            last = e
    raise last or Fail(DECODE, FAULT_USER, "no serialised form inside")


def load_combined(body):
    parts = as_str(body).split(":")
    return load_first([parts[i] + parts[i + 1] for i in range(0, len(parts) - 1, 2)])


def load_json(body):
    return json.loads(as_str(body))


LOADERS = {
    "00": load_pickle, "01": load_code_pickle, "02": load_code_pickle, "03": load_named_source, "04": load_named_source,
    "10": load_combined, "11": load_json, "12": lambda body: load_first(packed_buffers(body)),
    "13": lambda body: load_first(packed_buffers(body)), "st": load_text_source, "sd": load_text_source,
}


def load_object(text):
    ident = as_str(text[:2])
    loader = LOADERS.get(ident)
    if loader is None or text[2:3] not in ("\n", b"\n"):
        raise Fail(DECODE, FAULT_USER, "unknown serialisation id %r" % as_str(text[:3]))
    return loader(text[3:])


def base64_lines(raw):
    text = binascii.b2a_base64(raw, newline=False)
    if len(text) <= 76:
        return text + b"\n"
    return b"\n".join([text[i:i + 76] for i in range(0, len(text), 76)]) + b"\n"


SIMPLE = (int, float, str, bytes, bool, type(None))


def dump_object(value):
    """A result: 00, or 01 for callables. C pickle first; dill when that cannot, or when names in __main__ are meant."""
    if type(value) in SIMPLE:
        return b"00\n" + base64_lines(pickle.dumps(value, pickle.DEFAULT_PROTOCOL))
    if not callable(value):
        try:
            raw = pickle.dumps(value, pickle.DEFAULT_PROTOCOL)
            if b"__main__" not in raw:
                return b"00\n" + base64_lines(raw)
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception:
            pass
    return (b"01\n" if callable(value) else b"00\n") + base64_lines(dill_module().dumps(value))


def dump_as(value, flags):
    """A result as its submitter asked for it, or None: a callable is none of these, and not all is JSON. What JSON is, is not stretched here
    (as numpy arrays are in dump_json): the next form keeps what the value is."""
    if callable(value):
        return None
    try:
        plain = b"11\n" + json.dumps(value).encode("ascii")
    except (TypeError, ValueError, RecursionError):
        plain = None
    if flags & FLAG_AS_JSON and plain:
        return plain
    if flags & FLAG_AS_ALL:
        return b"13\n" + b"".join(b"%d\n%s" % (len(part), part) for part in (plain, dump_object(value)) if part)
    return None


def describe_module_error(e):
    name = getattr(e, "name", None)
    if name == "dill":
        return Fail(MODULE, FAULT_SITE, "module 'dill' is not installed for %s on node %s: install it or use JSON payloads"
                    % (sys.executable, NODE))
    if isinstance(e, ModuleNotFoundError) and name:
        return Fail(MODULE, FAULT_USER, "module '%s' is not installed for %s (Python %s) on node %s"
                    % (name, sys.executable, VERSION, NODE))
    return Fail(MODULE, FAULT_USER, "%s (%s, Python %s, on node %s)" % (e, sys.executable, VERSION, NODE))


# ---- JSON payloads --------------------------------------------------------------------------------------------------

def json_other(value):
    if hasattr(value, "tolist"):        # numpy arrays and scalars
        return value.tolist()
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


json_decoder = json.JSONDecoder()
json_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=json_other).encode
json_encode_ascii = json.JSONEncoder(separators=(",", ":"), default=json_other).encode


# The module's own way with strings looks at each character twice, 2.5 ms a MB. Most long ones need no escape: plain_text.c finds that out, or
# where it cannot be loaded one memchr for each byte that would, and the rest of such a string is a copy.
LONG = 4096
PIECE = 1 << 18
ESCAPED = [bytes([c]) for c in list(range(32)) + [0x22, 0x5c]]


def plain_end_slow(data, at, end):
    """weft_plain_end of plain_text.c. Piece by piece: all are looked for in one while the processor's cache has it."""
    while at < end:
        stop = min(at + PIECE, end)
        first = stop
        for m in ESCAPED:
            found = data.find(m, at, first)
            if found >= 0:
                first = found
        if first < stop:
            return first
        at = stop
    return end


def plain_end(data, at, end):
    """Finds the best way, and takes its place: not before there is a long string, most runners never see one."""
    global plain_end
    plain_end = plain_end_slow
    try:
        import ctypes
        found = ctypes.PyDLL(os.path.join(DIR, "plain_text.so")).weft_plain_end
        found.argtypes, found.restype = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t), ctypes.c_size_t
        plain_end = found
    except Exception:           # a Python without ctypes, a directory of which nothing may be loaded
        pass
    return plain_end(data, at, end)


def plain_string(value):
    """A long string as JSON text in UTF-8; None: it has to be escaped."""
    data = value.encode("utf-8")
    return b"".join((b'"', data, b'"')) if plain_end(data, 0, len(data)) == len(data) else None


def json_string(value):
    if len(value) >= LONG:
        data = plain_string(value)
        if data is not None:
            return str(data, "utf-8")
    return json.encoder.encode_basestring(value)


def json_encode_long(value):
    """The same text as json_encode makes, quicker for what holds long strings."""
    return "".join(json.encoder.c_make_encoder({}, json_other, json_string, None, ":", ",", False, False, True)(value, 0))


def holds_long(value):
    """Does it hold a long string, as far as a quick look tells?"""
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is not list and kind is not tuple:
        return False
    for _, v in zip(range(64), value):
        if type(v) is str and len(v) >= LONG:
            return True
    return False


def dump_json(value):
    try:
        if type(value) is str and len(value) >= LONG:
            data = plain_string(value)
            if data is not None:
                return data
        elif holds_long(value):
            try:
                return json_encode_long(value).encode("utf-8")
            except UnicodeEncodeError:
                raise
            except Exception:           # the usual way says what is wrong with the value
                pass
        return json_encode(value).encode("utf-8")
    except UnicodeEncodeError:          # half a surrogate pair
        return json_encode_ascii(value).encode("ascii")


# Likewise the other way round: where long strings are nearly all there is, and nothing is escaped, a string ends at the next quote.
class LongStrings(json.JSONDecoder):
    def __init__(self):
        json.JSONDecoder.__init__(self)
        self.data = b""
        self.parse_string = self.scan_string
        self.scan_once = json.scanner.py_make_scanner(self)

    def decode_ascii(self, data, text):
        """text is the same as data."""
        self.data = data
        try:
            return self.decode(text)
        finally:
            self.data = b""

    def scan_string(self, text, at, strict=True):
        """As the module's own; in ASCII places are the same in text and data."""
        end = plain_end(self.data, at, len(text))
        if end - at >= LONG and self.data[end:end + 1] == b'"':
            return text[at:end], end + 1
        return json.decoder.scanstring(text, at, strict)


long_strings_decoder = LongStrings()


def long_strings(data):
    """Is it JSON text with next to nothing but long strings, without escapes?"""
    if len(data) < LONG or b"\\" in data:
        return False
    outside = end = 0
    while outside < LONG // 8:
        begin = data.find(b'"', end)
        if begin < 0:
            return True
        outside += begin - end + 1
        end = data.find(b'"', begin + 1) + 1
        if not end:
            return False
    return False


def json_decode(text):
    """As the module's own, which looks for white space around it first: there is hardly ever any, and that is half of the time of a small payload."""
    try:
        value, end = json_decoder.scan_once(text, 0)
    except StopIteration:
        end = -1
    return value if end == len(text) else json_decoder.decode(text)


def parse_json(payload):
    """payload: bytes, or a view of some."""
    text = str(payload, "utf-8")
    if len(payload) == len(text) >= LONG:
        data = bytes(payload)
        if long_strings(data):
            return long_strings_decoder.decode_ascii(data, text)
    return json_decode(text)


def json_arguments(payload):
    if not payload:
        return (), {}
    try:
        value = parse_json(payload)
    except (ValueError, RecursionError) as e:
        raise Fail(DECODE, FAULT_USER, "payload is not JSON: %s" % e)
    if type(value) is dict and value and not value.keys() - {"args", "kwargs"}:
        args, kwargs = value.get("args", []), value.get("kwargs", {})
        if type(args) is list and type(kwargs) is dict:
            return args, kwargs
    return (value,), {}


def slips(word):
    """It with a letter left out, or two exchanged."""
    return {word[:i] + word[i + 1:] for i in range(len(word))} | {word[:i] + word[i + 1] + word[i] + word[i + 2:] for i in range(len(word) - 1)}


def about_arguments(value):
    """For a TypeError: what became of an object that was surely meant as {"args": ..., "kwargs": ...}; else ""."""
    def meant(key):
        key = key.lower()
        return key in ("args", "kwargs", "argument", "arguments") or len(key) < 8 and any(key in slips(w) or w in slips(key) for w in ("args", "kwargs"))
    if type(value) is not dict or not value or not all(map(meant, value)):
        return ""
    return ('(the payload is an object with the key "%s", so all of it was the only argument: what is to be spread has "args" (an array) and "kwargs" '
            '(an object), and nothing else)' % next(iter(value)))


# ---- the bulk store: large payloads and results stand in files, SPEC.md sections 3.6 and 9 ------------------------------------

def reserve_not(fd, mode, at, size):
    return -1


def reserve(fd, mode, at, size):
    """fallocate(2), which the module os has only in a form that makes the file longer. Finds the way, and takes its place."""
    global reserve
    reserve = reserve_not
    try:
        import ctypes
        found = ctypes.CDLL(None).fallocate
        found.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
        reserve = found
    except Exception:           # a Python without ctypes
        pass
    return reserve(fd, mode, at, size)


class BulkStore:
    def __init__(self, path):
        self.path, self.segment, self.slots = path, None, {}       # slots: (descriptor, inode) of their files
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def get(self, reference):
        """The data of a reference that the worker has checked."""
        size, name = REFERENCE.unpack_from(reference)[0], str(reference[REFERENCE.size:], "ascii")
        try:
            data = self.from_slot(binascii.unhexlify(name[:32]), size)
            if data is None:
                fd = self.open(name)
                try:
                    data = self.read(fd, size + 1, 0)
                finally:
                    os.close(fd)
        except FileNotFoundError:
            raise Fail(NOT_FOUND, FAULT_SELF, "its payload is not in the bulk store %s any more (node %s)" % (self.path, NODE))
        except OSError as e:
            raise Fail(IO, FAULT_SELF, "its payload in the bulk store %s cannot be read on node %s: %s" % (self.path, NODE, e.strerror))
        if len(data) != size:
            raise Fail(IO, FAULT_SELF, "its payload in the bulk store %s has another size than %d bytes: it was changed" % (self.path, size))
        return data

    def open(self, name):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return os.open(name, flags | os.O_NOATIME, dir_fd=self.fd)     # else each read is a change of the inode
        except PermissionError:
            return os.open(name, flags, dir_fd=self.fd)

    @staticmethod
    def read(fd, size, at):
        data = os.pread(fd, size, at)
        while len(data) < size:
            more = os.pread(fd, size - len(data), at + len(data))
            if not more:
                break
            data += more
        return data

    def slot_file(self, name):
        """Kept open; None: there is none. Somebody may have removed it, or the function have closed what it did not open."""
        fd, inode = self.slots.pop(name, (-1, 0))
        try:
            now = os.fstat(fd)
            if now.st_ino == inode and not now.st_nlink:
                os.close(fd)
            ours = now.st_ino == inode and now.st_nlink
        except OSError:
            ours = False
        try:
            if not ours:
                fd = self.open(name)
                inode = os.fstat(fd).st_ino
        except FileNotFoundError:
            return None
        self.slots[name] = fd, inode
        return fd

    def from_slot(self, task, size):
        """The payload of this task, or None when it stands in no slot. A slot is another task's as soon as this one is through."""
        for name, slots, most in SLOTS:
            if size <= most:
                break
        else:
            return None
        fd, first = self.slot_file(name), int.from_bytes(task[-4:], "little")
        for i in range(SLOT_WAYS if fd is not None else 0):
            at = (first + i) % slots * (most + PAGE)
            head = os.pread(fd, SLOT_HEAD.size, at)
            if head[8:24] != task or len(head) < SLOT_HEAD.size:
                continue
            magic, length, _, gone, _ = SLOT_HEAD.unpack(head)
            if magic != SLOT_MAGIC or gone == task:
                continue
            data = self.read(fd, length if length == size else 0, at + SLOT_DATA)
            if os.pread(fd, SLOT_HEAD.size, at) != head:
                raise FileNotFoundError
            return data
        return None

    def put(self, task, data):
        """A reference to data, or None: then it travels in the frame."""
        try:
            if not self.usable():
                self.begin()
            self.make_room(SEGMENT_HEAD.size + len(data))
            sent = os.writev(self.segment, (SEGMENT_HEAD.pack(SEGMENT_MAGIC, len(data), task), data))
            while SEGMENT_HEAD.size <= sent < SEGMENT_HEAD.size + len(data):    # the disk is nearly full
                sent += os.write(self.segment, memoryview(data)[sent - SEGMENT_HEAD.size:])
            if sent < SEGMENT_HEAD.size:
                raise OSError("not even its head")
            page, self.end = self.end // PAGE, self.end + -(-sent // PAGE) * PAGE
            os.lseek(self.segment, self.end, os.SEEK_SET)
        except (OSError, ValueError):
            self.leave(self.end)
            return None
        return REFERENCE.pack(len(data)) + binascii.hexlify(task) + b"@%s%08x" % (self.name, page)

    def make_room(self, size):
        """Blocks for the next records, at most as much again as the segment has: to find some page by page is a quarter of the time of writing."""
        if self.end >= AHEAD_MIN and self.end + size > self.ahead:
            ahead = max(size, min(self.end, AHEAD_MAX))
            reserve(self.segment, FALLOC_FL_KEEP_SIZE, self.end, ahead)         # or not: writing says so when the disk is full
            self.ahead = self.end + ahead

    def usable(self):
        """Whether the segment takes one more: somebody may have removed it, or the function have closed what it did not open."""
        if self.segment is None or self.end >= SEGMENT_MAX or time.monotonic() >= self.until:
            return False
        now = os.fstat(self.segment)
        return now.st_nlink and now.st_ino == self.inode

    def begin(self):
        self.leave()
        self.end = self.ahead = 0
        self.name = binascii.hexlify(os.urandom(4))
        self.segment = os.open(b"seg-" + self.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=self.fd)
        fcntl.flock(self.segment, fcntl.LOCK_EX | fcntl.LOCK_NB)        # as long as it may grow nobody removes it
        self.until, self.inode = time.monotonic() + SEGMENT_AGE_S, os.fstat(self.segment).st_ino

    def leave(self, end=None):
        """No more is written into the segment; end: what stands behind it was not written whole."""
        segment, self.segment = self.segment, None
        if segment is None:
            return
        try:
            now = os.fstat(segment)
            if now.st_ino == self.inode:
                os.ftruncate(segment, now.st_size if end is None else end)      # what was reserved beyond goes back
            os.close(segment)
        except OSError:
            pass


def bulk_store():
    path = os.environ.pop("WEFT_BULK_DIR", None)
    try:
        return BulkStore(path) if path else None
    except OSError:
        return None


# ---- functions ------------------------------------------------------------------------------------------------------

class Function:
    """A function as the worker sent it; decoded at the first call and kept. A failure is not kept: what was missing may come."""

    def __init__(self, record):
        fixed, self.kind, flags, self.id, ncode, _, _, nentry, _ = FUNCTION.unpack_from(record)
        if fixed < FUNCTION.size or len(record) < fixed + ncode + nentry:
            raise ValueError("malformed function record")
        self.code = bytes(record[fixed:fixed + ncode])
        self.entry = str(record[fixed + ncode:fixed + ncode + nentry], "utf-8", "replace")
        self.python = tuple(reversed(PYTHON.unpack_from(record, PYTHON_AT))) if fixed >= PYTHON_AT + PYTHON.size else (0, 0)
        self.bytecode = bool(flags & FUNCTION_BYTECODE)
        self.target = None

    def load(self):
        if self.kind == KIND_PYTHON:
            self.target = self.load_source()
        else:
            self.target = self.load_globus()
        self.code = None
        return self.target

    def load_source(self):
        import linecache
        name = "weft_function_%s" % binascii.hexlify(self.id).decode()
        filename = "<function %s>" % (self.entry or name)
        source = self.code.decode("utf-8")
        code = compile(source, filename, "exec")
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        module = types.ModuleType(name)
        module.__file__ = filename
        sys.modules[name] = module      # dataclasses and pickle look there
        try:
            exec(code, module.__dict__)
            target = module
            for part in (self.entry or "main").split("."):
                target = getattr(target, part, None)
            if not callable(target):
                raise Fail(DECODE, FAULT_USER, "the source does not define a function '%s'" % (self.entry or "main"))
        except BaseException:
            sys.modules.pop(name, None)
            raise
        return target

    def foreign(self):
        """The version that it was made with, when that is another than ours."""
        return "%d.%d" % self.python if self.python[0] and self.python != sys.version_info[:2] else None

    def load_globus(self):
        if self.bytecode and self.foreign():        # what another version's bytecode does to an interpreter is not to be tried
            raise Fail(DECODE, FAULT_USER, "the function is bytecode of Python %s, which Python %s (%s on node %s) cannot read: send it as "
                       "source, or to an endpoint that has Python %s" % (self.foreign(), VERSION, sys.executable, NODE, self.foreign()))
        parts = packed_buffers(text_of(self.code))
        if len(parts) != 1:
            raise Fail(DECODE, FAULT_USER, "function has %d serialised parts, expected 1" % len(parts))
        target = load_object(parts[0])
        if not callable(target):
            raise Fail(DECODE, FAULT_USER, "what was registered as a function is a %s" % type(target).__name__)
        return target

    def takes_json(self, flags):
        return self.kind == KIND_PYTHON or flags & FLAG_JSON

    def arguments(self, payload, flags):
        if self.takes_json(flags):
            return json_arguments(payload)
        parts = packed_buffers(text_of(payload))
        if len(parts) != 2:
            raise Fail(DECODE, FAULT_USER, "payload has %d serialised parts, expected 2: arguments and keyword arguments" % len(parts))
        return load_object(parts[0]), load_object(parts[1])

    def single_argument(self, payload, flags):
        """An input of a batch."""
        args, kwargs = self.arguments(payload, flags)
        if len(args) != 1 or kwargs:
            raise Fail(DECODE, FAULT_USER, "a function with a batch entry is called with one argument, not with %d and %d named ones"
                       % (len(args), len(kwargs)))
        return args[0]

    def encode(self, value, flags):
        if self.kind == KIND_PYTHON:
            return dump_json(value)
        if flags & (FLAG_AS_JSON | FLAG_AS_ALL):
            result = dump_as(value, flags)
            if result:
                return result
        if flags & FLAG_JSON:           # who sent plain JSON reads JSON, when it can be said in JSON
            try:
                return b"11\n" + dump_json(value)
            except (TypeError, ValueError, RecursionError):
                pass
        return dump_object(value)


# ---- the ids of the call, in the environment that C code and other programs see ----------------------------------------

ID_NAMES = b"GC_TASK_UUID", b"WEFT_TASK_ID"
FEW_CALLS = 1000                # so many are not worth loading ctypes for
calls_named = 0


def put_ids(text):
    """glibc before 2.41 keeps whatever setenv (os.putenv) was given, for ever: 200 bytes a call, and each takes longer to be looked up. Takes
    another way after FEW_CALLS."""
    global calls_named, put_ids
    calls_named += 1
    for name in ID_NAMES:
        os.putenv(name, text)
    if calls_named == FEW_CALLS:
        put_ids = put_ids_in_place() or put_ids


def put_ids_in_place():
    """putenv(3) takes memory of ours into the environment; again each time, for a function may have put something else there."""
    try:
        import ctypes
        putenv, places = ctypes.PyDLL(None).putenv, []
        for name in ID_NAMES:
            line = bytearray(name + b"=" + bytes(37))
            places.append((line, len(name) + 1, (ctypes.c_char * len(line)).from_buffer(line)))
    except Exception:           # a Python without ctypes
        return None

    def put(text):
        for line, at, place in places:
            line[at:-1] = text
            putenv(place)
    return put


# ---- the runner -----------------------------------------------------------------------------------------------------

def format_error(e):
    """The traceback without our own frames, cut in the middle when it is long."""
    tb = e.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename == __file__:
        tb = tb.tb_next
    try:
        text = "".join(traceback.format_exception(type(e), e, tb))
    except BaseException as again:
        text = "%s (its traceback cannot be shown: %s)" % (type(e).__name__, type(again).__name__)
    return text


def cut(data, limit=TAIL):
    if len(data) <= limit:
        return data
    head = data[:8192].decode("utf-8", "ignore").encode()
    tail = data[len(data) - (limit - 8192 - 64):].decode("utf-8", "ignore").encode()
    return head + b"\n[... cut ...]\n" + tail


class Runner:
    def __init__(self):
        self.functions = {}
        self.pid = os.getpid()
        memory = self.memory = capture_memory()
        self.out = Capture(memory, 0, 1, "<stdout>")
        self.errout = Capture(memory, RING, 2, "<stderr>")
        self.cwd = os.getcwd()
        self.task_dir = os.path.join(os.path.dirname(self.cwd), "task")
        self.bulk = bulk_store()
        if os.environ.pop("WEFT_MALLOC", None):     # was for this process; not for those that functions start
            for name in MALLOC:
                os.environ.pop(name, None)
        self.environ = getattr(os.environ, "_data", None)
        if not isinstance(self.environ, dict):
            self.environ = None
        self.saved = dict(self.environ) if self.environ is not None else dict(os.environ)
        sys.stdout, sys.stderr = self.out, self.errout
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forked)

    def forked(self):
        """A child of a function never speaks to the worker."""
        self.pid = -1
        for fd in (FD_IN, FD_OUT):
            try:
                os.close(fd)
            except OSError:
                pass

    # -- the two pipes

    def send(self, *parts):
        """The large part, a result, is not copied into a frame of its own: the pipe takes a MiB at once."""
        if sum(map(len, parts)) > LARGE:
            parts = [p for p in parts if p]
            sent = os.writev(FD_OUT, parts)
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if not parts:
                return
            parts[0] = memoryview(parts[0])[sent:]
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        sent = os.write(FD_OUT, data)
        if sent < len(data):
            view = memoryview(data)
            while sent < len(data):
                sent += os.write(FD_OUT, view[sent:])

    def ready(self):
        self.memory[CURRENT:SHARED] = NO_TASK
        uname = os.uname()
        body = json.dumps({"os": "%s-%s-%s" % (uname[0], uname[2], uname[4]), "python_version": VERSION,
                           "dill_version": dill_version(), "kinds": ["globus", "python"]}).encode()
        self.send(LENGTH.pack(1 + len(body)), b"I", body)

    def read_large(self, have, length):
        frame = bytearray(length + 4)
        frame[:len(have)] = have
        view, got = memoryview(frame), len(have)
        while got < len(frame):
            n = os.readv(FD_IN, [view[got:]])
            if n == 0:
                return None
            got += n
        return frame

    def serve(self):
        """Read frames for ever. Several calls may come in one read; then the start of each later one is told with S."""
        rest = b""
        while True:
            data = os.read(FD_IN, READ_BYTES)
            if not data:
                return
            if rest:
                data = rest + data
            at, n = 0, len(data)
            while n - at >= 5:
                length = LENGTH.unpack_from(data, at)[0]
                if not 1 <= length <= MAX_FRAME:
                    raise SystemExit("frame of %d bytes from the worker" % length)
                end = at + 4 + length
                if end > n:
                    if length > READ_BYTES:
                        data = self.read_large(data[at:], length)
                        if data is None:
                            return
                        at, n, end = 0, len(data), len(data)
                    else:
                        break
                self.frame(data, at, end, n)
                at = end
            rest = data[at:]

    def frame(self, data, at, end, n):
        kind = data[at + 4]
        if kind == 0x43:                # C
            self.call(data, at + 5, end, self.next_call(data, end, n))
        elif kind == 0x42:              # B
            self.batch(data, at + 5, end)
        elif kind == 0x46:              # F
            function = Function(memoryview(data)[at + 5:end])
            self.functions[function.id] = function

    @staticmethod
    def next_call(data, at, n):
        """The task id of the call that stands complete behind this frame, or None."""
        if n - at < 45 or data[at + 4] != 0x43 or LENGTH.unpack_from(data, at)[0] > n - at - 4:
            return None
        return bytes(data[at + 5:at + 21])

    # -- one call

    def call(self, data, at, end, following):
        task, function_id, flags, limit = CALL.unpack_from(data, at)
        function = self.functions.get(function_id)
        self.before(task)
        status, fault, code, result, error, result_flags = STATUS_SUCCESS, FAULT_NONE, 0, b"", b"", 0
        phase, start, cpu, value = "decode", now_ns(), cpu_ns(), None
        try:
            if function is None:
                raise Fail(RUNNER, FAULT_SELF, "the worker named a function that it did not send")
            self.enter(flags)
            at += CALL.size
            if flags & FLAG_ENVIRON:
                at = self.surround(data, at)
            target = function.target or function.load()
            payload = memoryview(data)[at:end]
            if flags & FLAG_BULK:
                if not self.bulk:
                    raise Fail(NOT_FOUND, FAULT_SELF, "its payload is in a bulk store that its runner does not have")
                payload = self.bulk.get(payload)
            args, kwargs = function.arguments(payload, flags)
            payload = None
            phase, start = "run", now_ns()
            value = target(*args, **kwargs)
            if type(value) is types.CoroutineType:
                import asyncio
                value = asyncio.get_event_loop_policy().new_event_loop().run_until_complete(value)
            if self.pid != os.getpid():
                os._exit(0)             # the function forked and its child came back here
            phase = "encode"
            result = function.encode(value, flags)
            if limit and len(result) > limit:
                raise Fail(TOO_LARGE, FAULT_USER, "MaxResultSizeExceeded: the result has %d bytes, the limit is %d" % (len(result), limit))
            if self.bulk and len(result) > BULK_MIN:
                reference = self.bulk.put(task, result)
                if reference:
                    result, result_flags = reference, RESULT_BULK
        except BaseException as e:
            if self.pid != os.getpid():
                os._exit(1)
            status, result, result_flags = STATUS_FAILED, b"", 0
            code, fault, text = self.failure(e, phase, value, function)
            if phase == "run" and isinstance(e, TypeError) and type(args) is tuple and len(args) == 1 and function.takes_json(flags):
                text = " ".join((text.rstrip("\n"), about_arguments(args[0]))).rstrip() + "\n"
            error = cut(text.encode("utf-8", "replace"))
        stop = now_ns()
        args = kwargs = value = target = payload = None     # what the call held is freed before the next one
        self.after()
        out, errout = self.out.tail(), self.errout.tail()
        more = START.pack(25, 0x53, following, stop) if following else b""
        self.send(RESULT.pack(1 + 72 + len(result) + len(error) + len(out) + len(errout), 0x52, task, status, fault, code, start, stop,
                              max(0, cpu_ns() - cpu), max_rss(), result_flags, len(result), len(error), len(out), len(errout)),
                  result, error, out, errout, more)

    # -- many inputs in one call

    def batch(self, data, at, end):
        """The function takes a list of inputs and returns a list of as many results; one R for each input, written together."""
        function_id, flags, limit, count = BATCH.unpack_from(data, at)
        rows = [INPUT.unpack_from(data, at + BATCH.size + i * INPUT.size) for i in range(count)]
        at += BATCH.size + count * INPUT.size
        function, view = self.functions.get(function_id), memoryview(data)
        self.before(rows[0][0])
        outcomes, good = [None] * count, []     # an outcome: (result, None) or (None, (code, fault, text))
        start, cpu = now_ns(), cpu_ns()
        try:
            if function is None:
                raise Fail(RUNNER, FAULT_SELF, "the worker named a function that it did not send")
            self.enter(flags)
            target = function.target or function.load()
        except BaseException as e:
            self.leave_if_forked()
            outcomes = [(None, self.failure(e, "decode", None, function))] * count
        else:
            for i, (_, size) in enumerate(rows):
                try:
                    good.append((i, function.single_argument(view[at:at + size], flags)))
                except BaseException as e:
                    outcomes[i] = None, self.failure(e, "decode", None, function)
                at += size
            start = now_ns()
            self.call_batch(target, good, outcomes, [RAISES_MAX])
            self.leave_if_forked()
            self.encode_batch(function, flags, limit, outcomes)
        stop, used = now_ns(), max(0, cpu_ns() - cpu) // count
        good = target = None
        self.after()
        out, errout, rss, parts = self.out.tail(), self.errout.tail(), max_rss(), []
        for (task, _), (result, failed) in zip(rows, outcomes):
            code, fault, text = failed or (0, FAULT_NONE, "")
            result, error = result or b"", cut(text.encode("utf-8", "replace"))
            parts += (RESULT.pack(1 + 72 + len(result) + len(error) + len(out) + len(errout), 0x52, task,
                                  STATUS_FAILED if failed else STATUS_SUCCESS, fault, code, start, stop, used, rss, 0, len(result), len(error),
                                  len(out), len(errout)), result, error, out, errout)
            out = errout = b""          # with the first one
        for i in range(0, len(parts), 500):     # writev takes 1,024 at most
            self.send(*parts[i:i + 500])

    def leave_if_forked(self):
        if self.pid != os.getpid():
            os._exit(0)                 # the function forked and its child came back here

    def call_batch(self, target, inputs, outcomes, left):
        """Call for these (index, input). What raises for several is called again for each half, so that one input's exception stays
        its own; after RAISES_MAX exceptions what is left fails with the last one."""
        if not inputs:
            return
        try:
            values = target([x for _, x in inputs])
            if type(values) is types.CoroutineType:
                import asyncio
                values = asyncio.get_event_loop_policy().new_event_loop().run_until_complete(values)
            n = -1
            if not isinstance(values, (str, bytes, dict)):
                try:
                    values = list(values)
                    n = len(values)
                except TypeError:
                    pass
            if n != len(inputs):
                raise Fail(EXCEPTION, FAULT_USER, "a function with a batch entry must return a list of one result for each of its %d inputs, "
                           "not %s" % (len(inputs), "%d" % n if n >= 0 else "a %s" % type(values).__name__))
        except BaseException as e:
            self.leave_if_forked()
            left[0] -= 1
            if len(inputs) > 1 and left[0] > 0 and not isinstance(e, (Fail, SystemExit, KeyboardInterrupt)):
                half = len(inputs) // 2
                self.call_batch(target, inputs[:half], outcomes, left)
                self.call_batch(target, inputs[half:], outcomes, left)
                return
            failed = self.failure(e, "run", None)
            for i, _ in inputs:
                outcomes[i] = None, failed
            return
        for (i, _), value in zip(inputs, values):
            if isinstance(value, BaseException):
                outcomes[i] = None, self.failure(value, "run", None)
            else:
                outcomes[i] = value, None

    def encode_batch(self, function, flags, limit, outcomes):
        for i, (value, failed) in enumerate(outcomes):
            if failed:
                continue
            try:
                result = function.encode(value, flags)
                if limit and len(result) > limit:
                    raise Fail(TOO_LARGE, FAULT_USER, "MaxResultSizeExceeded: the result has %d bytes, the limit is %d" % (len(result), limit))
                outcomes[i] = result, None
            except BaseException as e:
                outcomes[i] = None, self.failure(e, "encode", value)

    def failure(self, e, phase, value, function=None):
        if isinstance(e, MemoryError):  # the worker knows whether there was a limit
            return MEMORY, FAULT_USER, format_error(e)
        if isinstance(e, ImportError) and phase != "run" and not isinstance(e, Fail):
            e = describe_module_error(e)
        if isinstance(e, Fail):
            return e.code, e.fault, e.text
        if phase == "decode":
            foreign = function and function.foreign()
            return DECODE, FAULT_USER, ("cannot decode the function or its arguments%s with Python %s (dill %s) on node %s; functions that "
                                        "travel as bytecode need the Python minor version that they were made with\n%s"
                                        % (", made with Python %s," % foreign if foreign else "", VERSION,
                                           getattr(sys.modules.get("dill"), "__version__", "not loaded"), NODE, format_error(e)))
        if phase == "encode":
            return ENCODE, FAULT_USER, "cannot serialise the return value, a %s: %s: %s" % (type(value).__name__, type(e).__name__, e)
        text = format_error(e)
        if isinstance(e, SystemError) and function and function.foreign():      # "unknown opcode", and worse
            text += "(the function was made with Python %s, and this is Python %s on node %s)" % (function.foreign(), VERSION, NODE)
        return EXCEPTION, FAULT_USER, text

    def before(self, task):
        self.memory[CURRENT:SHARED] = task
        self.out.begin()
        self.errout.begin()
        h = binascii.hexlify(task)
        text = b"-".join((h[:8], h[8:12], h[12:16], h[16:20], h[20:]))
        if self.environ is not None:
            # Like os.environ[...] = ..., without encoding the same names again for each call.
            put_ids(text)
            for name in ID_NAMES:
                self.environ[name] = self.saved[name] = text
        else:
            for key in ("GC_TASK_UUID", "WEFT_TASK_ID"):
                os.environ[key] = self.saved[key] = text.decode()

    def enter(self, flags):
        if flags & FLAG_OWN_DIR:
            try:
                os.chdir(self.task_dir)     # until after()
            except OSError as e:
                raise Fail(RUNNER, FAULT_SITE, "cannot go to the directory of the call on node %s: %s" % (NODE, e))

    @staticmethod
    def surround(data, at):
        """The call's environment, until after(). Returns where its payload begins."""
        end = at + 4 + LENGTH.unpack_from(data, at)[0]
        for entry in bytes(data[at + 4:end]).split(b"\0")[:-1]:
            name, value = entry.split(b"=", 1)
            os.environ[os.fsdecode(name)] = os.fsdecode(value)
        return end

    def after(self):
        """Give the next call the surroundings that this one had."""
        if sys.stdout is not self.out:
            sys.stdout = self.out
        if sys.stderr is not self.errout:
            sys.stderr = self.errout
        if self.environ is not None:
            if self.environ != self.saved:
                self.restore_environ(os.fsdecode)
        elif dict(os.environ) != self.saved:
            self.restore_environ(str)
        try:
            if os.getcwd() != self.cwd:
                os.chdir(self.cwd)
        except OSError:                 # it removed the directory that it stood in
            try:
                os.chdir(self.cwd)
            except OSError:
                pass

    def restore_environ(self, text):
        saved = {text(k): text(v) for k, v in self.saved.items()}
        for key in set(os.environ) - set(saved):
            del os.environ[key]
        for key, value in saved.items():
            if os.environ.get(key) != value:
                os.environ[key] = value


def dill_version():
    """From the name of the installed distribution: importing dill costs 30 ms, and most calls do not need it."""
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        if "dill" not in names:
            continue
        for name in names:
            if name.startswith("dill-") and name.endswith(("-info", ".egg")):
                return name.split("-")[1].replace(".dist", "").replace(".egg", "")
        return "unknown"
    return None


def main_module_give_up():
    this = sys.modules["__main__"]
    sys.modules["weft_python_runner"] = this        # keeps our globals alive
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.modules["__main__"].__dict__["__builtins__"] = this.__dict__["__builtins__"]


def main():
    main_module_give_up()
    if sys.path and sys.path[0] == DIR:
        sys.path[0] = ""                # the work directory, as in an interactive Python
    sys.meta_path.append(ShimFinder)
    for fd in (FD_IN, FD_OUT):
        os.set_inheritable(fd, False)
    runner = Runner()
    runner.ready()
    try:
        runner.serve()
    except BrokenPipeError:
        pass                            # the worker is gone
    os._exit(0)                         # threads that functions left behind do not hold us


if __name__ == "__main__":
    main()

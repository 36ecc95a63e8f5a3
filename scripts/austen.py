"""Jane Austen's six novels from Debian's r-cran-janeaustenr, as one plain text file (no R needed).

An R "lazy load" file is a row of [big-endian length, zlib stream]; the stream is R's serialisation of a
vector of strings, one a line of the book.
"""
import struct, sys, zlib

def lines(stream):
    """The strings of a serialised character vector; None for anything else."""
    if stream[:2] != b"X\n":
        return None
    version, = struct.unpack_from(">i", stream, 2)
    at = 14
    if version == 3:
        at += 4 + struct.unpack_from(">i", stream, at)[0]
    flags, count = struct.unpack_from(">ii", stream, at)
    if flags & 255 != 16:  # STRSXP
        return None
    at += 8
    result = []
    for _ in range(count):
        flags, length = struct.unpack_from(">ii", stream, at)
        assert flags & 255 == 9  # CHARSXP
        at += 8
        result.append(stream[at:at + max(0, length)].decode())
        at += max(0, length)
    return result

data = open(sys.argv[1], "rb").read()
at, books = 0, []
while at < len(data):
    zlib_stream = zlib.decompressobj()
    stream = zlib_stream.decompress(data[at + 4:])
    at = len(data) - len(zlib_stream.unused_data)
    book = lines(stream)
    if book:
        books.append(book)
sys.stderr.write("".join(f"{len(b)} lines: {next(l for l in b if l.strip())[:60]}\n" for b in books))
open(sys.argv[2], "w").write("\n\n".join("\n".join(b) for b in books))

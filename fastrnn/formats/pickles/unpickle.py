"""A pickle interpreter that builds inert records and nothing else.

It is an interpreter of its own because the pickle module's allocates what a hostile file asks for
(memo slots, byte strings), recurses, and looks classes up. Here no opcode imports, calls or hashes
anything from the file, and a global is only a name.
"""

from __future__ import annotations

from fastrnn.errors import FormatError
from fastrnn.formats.pickles.interpreter import Interpreter
from fastrnn.formats.pickles.opcodes import STEPS, TEXT_OPCODES


class Unpickler(Interpreter):
    """Reads pickles one after another from `file`."""

    def load(self) -> object:
        """The next pickle's object; FormatError where it is not a sound pickle."""
        self.start()
        try:
            while True:
                opcode = self.take(1)
                if opcode == b".":
                    return self.stack.pop()
                if opcode not in STEPS:
                    raise FormatError(_refused(opcode))
                STEPS[opcode](self)
        except FormatError as error:
            raise FormatError(f"{error} (pickle, byte {self.position})") from None
        except IndexError:
            message = f"the pickle takes from an empty stack (byte {self.position})"
            raise FormatError(message) from None
        except ValueError as error:
            # A string that does not decode.
            message = f"damaged pickle at byte {self.position}: {str(error)[:200]}"
            raise FormatError(message) from None


def _refused(opcode: bytes) -> str:
    if opcode in TEXT_OPCODES:
        return f"opcode {opcode!r} is of pickle protocol 0 or 1, expected protocol 2 to 5"
    return f"opcode {opcode!r} is not one that weights are saved with"

"""Every error Hearth raises, sorted by who can act.

    HearthError                    catch this to catch them all
      CaptureError                 the step cannot be traced; names the line of the model
      UnsupportedOpError           not yet: an operator has no lowering; says where to add it
      UnsupportableError           never: what to write instead
      InvalidInputError            a wrong shape, dtype, range or value; names the argument
      OutOfMemoryError             the device cannot hold this batch size; suggests one
      NumericalInstabilityError    the loss of a training step is not finite
      BackendError                 no device, or one that computes wrong numbers
        DeviceLostError            the device disappeared while it worked
      StorageError                 a file or the browser's storage refused
      BundleFormatError            a bad, truncated, foreign or newer bundle or weight file
      InternalError                our bug: names the stage and the node

The browser runtime has the same names.  A message says what happened, where in the user's model,
why, and what to do.
"""

from __future__ import annotations


class HearthError(Exception):
    """Base of all errors raised by Hearth."""

    def __init__(self, what: str, *, where: str = "", why: str = "", remedy: str = "") -> None:
        self.what, self.where, self.why, self.remedy = what, where, why, remedy
        parts = [what]
        if where:
            parts.append(f"  in your model: {where}")
        if why:
            parts.append(f"  because {why}")
        if remedy:
            parts.append(f"  what to do: {remedy}")
        super().__init__("\n".join(parts))


class CaptureError(HearthError):
    """The training step cannot be traced into one graph."""


class UnsupportedOpError(HearthError):
    """An operator of the model has no lowering rule yet."""


class UnsupportableError(HearthError):
    """The model does something that an ahead-of-time compiler can never express."""


class InvalidInputError(HearthError, ValueError):
    """An argument has the wrong shape, dtype, range, or is not finite."""


class OutOfMemoryError(HearthError):
    """The device cannot hold the step for this batch size."""


class NumericalInstabilityError(HearthError, ArithmeticError):
    """The loss of a training step is not finite."""


class BackendError(HearthError):
    """A device is missing, refused a kernel, or computes wrong numbers."""


class DeviceLostError(BackendError):
    """The device disappeared while it worked."""


class StorageError(HearthError):
    """A file or the browser's storage could not be read or written."""


class BundleFormatError(HearthError):
    """A bundle or weight file is malformed, truncated, foreign or newer than this version."""


class InternalError(HearthError):
    """A broken invariant of the compiler: please report it with the message."""

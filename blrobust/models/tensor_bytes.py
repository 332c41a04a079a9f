"""The bytes of tensors: their checksum, and a safetensors file that depends on its content alone."""

import hashlib
import json
from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import Tensor

LENGTH = 8  # bytes at the start of the format: the length of the header, little-endian
ALIGNMENT = 8  # of the tensors behind the header, which ends in spaces


def checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the SHA-256 of a text and of the names, data types, shapes and values of tensors on the CPU."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{json.dumps(name)} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def to_bytes(tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the content of a safetensors file; the same tensors and metadata give the same bytes.

    The library writes the metadata in random order, so they are added to a file without metadata.
    """
    content = save(tensors)
    end = LENGTH + int.from_bytes(content[:LENGTH], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(content[LENGTH:end])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH, "little") + text + content[end:]

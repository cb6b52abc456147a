"""Inputs that are the same in every system, including the crate's bench in Rust, so that losses can be compared across processes.

Element `i` of stream `s` under `seed` is SplitMix64's output function of a counter, all modulo 2^64:

    z = (i + 1 + s * 2^40 + seed * 2^48) * 0x9E3779B97F4A7C15
    z ^= z >> 30;  z *= 0xBF58476D1CE4E5B9;  z ^= z >> 27;  z *= 0x94D049BB133111EB;  z ^= z >> 31

Logits (student: stream 0, teacher: stream 1, `i = row * classes + class`):

    u = (z >> 40) / 2^24                    in [0, 1)
    logit = (u - 0.5) * 8                   exact in f32
    logit *= 5 if z & 0xFF == 0             in f32; one class in 256 is a peak, up to +-20

bf16 is that f32 rounded to nearest, ties to even. Labels (stream 2, `i = row`): `(z >> 33) % classes`.
"""

import numpy as np
import torch

STUDENT, TEACHER, LABELS = 0, 1, 2
GOLDEN, MIX_1, MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
STORAGE = {"f32": torch.float32, "bf16": torch.bfloat16}


def offset(stream, seed):
    return (1 + (stream << 40) + (seed << 48)) % 2**64


def hashed(start, stop, stream, seed):
    """`z` of the elements `start..stop`, as numpy uint64 (whose arithmetic wraps)."""
    z = np.arange(start, stop, dtype=np.uint64)
    z += np.uint64(offset(stream, seed))
    z *= np.uint64(GOLDEN)
    z ^= z >> np.uint64(30)
    z *= np.uint64(MIX_1)
    z ^= z >> np.uint64(27)
    z *= np.uint64(MIX_2)
    z ^= z >> np.uint64(31)
    return z


def logits_numpy(start, stop, stream, seed):
    z = hashed(start, stop, stream, seed)
    u = (z >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    logit = (u - np.float32(0.5)) * np.float32(8)
    return np.where((z & np.uint64(0xFF)) == 0, logit * np.float32(5), logit)


def signed(x):
    """The int64 with the bits of the uint64 `x`, since torch has arithmetic for int64 only."""
    return x - 2**64 if x >= 2**63 else x


def shifted(z, n):
    """`z >> n` without sign extension."""
    return (z >> n) & ((1 << (64 - n)) - 1)


def logits_torch(start, stop, stream, seed, device):
    """The same on the device, where a billion elements take far less than the minute on the CPU."""
    z = torch.arange(start, stop, dtype=torch.int64, device=device)
    z += signed(offset(stream, seed))
    z *= signed(GOLDEN)
    z ^= shifted(z, 30)
    z *= signed(MIX_1)
    z ^= shifted(z, 27)
    z *= signed(MIX_2)
    z ^= shifted(z, 31)
    logit = (shifted(z, 40).float() * 2**-24 - 0.5) * 8
    return torch.where((z & 0xFF) == 0, logit * 5, logit)


def matrix(rows, classes, stream, seed, storage, device):
    """Logits `[rows, classes]` on the device, computed in parts so that the temporary is small."""
    flat = torch.empty(rows * classes, dtype=STORAGE[storage], device=device)
    on_host = torch.device(device).type == "cpu"
    piece = 1 << (20 if on_host else 25)
    for start in range(0, len(flat), piece):
        stop = min(start + piece, len(flat))
        if on_host:
            flat[start:stop] = torch.from_numpy(logits_numpy(start, stop, stream, seed))
        else:
            flat[start:stop] = logits_torch(start, stop, stream, seed, device)
    return flat.view(rows, classes)


def labels(rows, classes, seed, device):
    z = hashed(0, rows, LABELS, seed) >> np.uint64(33)
    return torch.from_numpy((z % np.uint64(classes)).astype(np.int64)).to(device)


def check():
    """Asserts that both implementations give the same bits as the formula in plain Python."""
    first, seed = 12345, 7
    a = logits_numpy(first, first + 5000, TEACHER, seed)
    b = logits_torch(first, first + 5000, TEACHER, seed, "cpu").numpy()
    assert (a.view(np.uint32) == b.view(np.uint32)).all()
    for i in (0, 1, 4999):
        z = (first + i + offset(TEACHER, seed)) * GOLDEN % 2**64
        z ^= z >> 30
        z = z * MIX_1 % 2**64
        z ^= z >> 27
        z = z * MIX_2 % 2**64
        z ^= z >> 31
        logit = ((z >> 40) / 2**24 - 0.5) * 8
        assert np.float32(logit * 5 if z & 0xFF == 0 else logit) == a[i]
    assert (np.abs(a) > 4).any(), "no peaks"

"""Inputs that trained models give meaningful outputs for, drawn from a seed.

A kind is a name, and perhaps parameters after a colon:

    normal:DEVIATION   uniform:LOW,HIGH   int:LOW,HIGH   const:VALUE   strings:A|B|C
    mask               ones; in all rows but the first zeros at the end
    audio:FACTOR       five tones and a little noise at 16 kHz
    image:FACTOR,SHIFT a smooth background with dark strokes in [0, 1], scaled; [n, c, h, w]
    page:FACTOR,SHIFT  a light page with lines of dark digits in [0, 1], scaled; page_nhwc has the channels last
"""
import hashlib

import numpy

# 5x7 digits, a row per byte.
DIGITS = (
    "0E11131519110E 040C040404040E 0E11010204081F 1F02040201110E 02060A121F0202 "
    "1F101E0101110E 0608101E11110E 1F010204080808 0E11110E11110E 0E11110F01020C"
).split()


def drawn(kind, shape, dtype, seed):
    """An array; `seed` is the model's name, the set and the input."""
    name, _, parameters = kind.partition(":")
    digest = int(hashlib.sha256(seed[0].encode()).hexdigest()[:8], 16)
    rng = numpy.random.default_rng([digest, *seed[1:]])
    if name == "strings":
        words = parameters.split("|")
        picked = [words[i] for i in rng.integers(0, len(words), int(numpy.prod(shape)))]
        return numpy.array(picked, dtype=object).reshape(shape)
    numbers = [float(number) for number in parameters.split(",") if number]
    return numpy.asarray(KINDS[name](rng, shape, numbers)).astype(dtype).reshape(shape)


def normal(rng, shape, numbers):
    return rng.standard_normal(shape) * (numbers[0] if numbers else 1.0)


def mask(rng, shape, numbers):
    ones = numpy.ones(shape)
    ones.reshape(-1, shape[-1])[1:, shape[-1] * 2 // 3 :] = 0
    return ones


def audio(rng, shape, numbers):
    time = numpy.arange(shape[-1]) / 16000

    def row():
        tones = [(rng.uniform(0.05, 0.2), rng.uniform(80, 3000), rng.uniform(0, 6)) for _ in range(5)]
        waves = sum(size * numpy.sin(2 * numpy.pi * pitch * time + phase) for size, pitch, phase in tones)
        return waves + 0.01 * rng.standard_normal(time.shape)

    rows = [row() for _ in range(int(numpy.prod(shape[:-1])))]
    return numpy.stack(rows).reshape(shape) * (numbers[0] if numbers else 1.0)


def scaled(x, rng, noise, numbers):
    x = numpy.clip(x + noise * rng.standard_normal(x.shape), 0, 1)
    return x * numbers[0] + numbers[1] if numbers else x


def image(rng, shape, numbers):
    _, channels, height, width = shape
    y, x = numpy.mgrid[0:height, 0:width]
    result = numpy.zeros(shape)
    for one in result:
        base = 0.6 + 0.3 * numpy.sin(x / rng.uniform(20, 60) + y / rng.uniform(20, 60))
        for channel in range(channels):
            one[channel] = base * rng.uniform(0.7, 1)
        for _ in range(max(4, height * width // 1500)):
            h, w = rng.integers(2, max(3, height // 6)), rng.integers(2, max(3, width // 10))
            top, left = rng.integers(0, max(1, height - h)), rng.integers(0, max(1, width - w))
            one[:, top : top + h, left : left + w] = rng.uniform(0, 0.4)
    return scaled(result, rng, 0.02, numbers)


def page(rng, shape, numbers):
    _, _, height, width = shape
    rows = lambda text: [int(text[i : i + 2], 16) for i in range(0, 14, 2)]
    glyphs = [numpy.array([[int(bit) for bit in f"{row:05b}"] for row in rows(text)]) for text in DIGITS]
    line = height < 100  # one line of text that fills the height, or a page
    zoom = max(2, min(4, height // 12)) if line else 3
    result = numpy.full(shape, 0.93)
    for one in result:
        top = max(1, (height - 7 * zoom) // 2) if line else 12
        while top + 7 * zoom <= height - 1:
            left = 6 if line else int(rng.integers(8, 40))
            end = width - 6 * zoom if line else int(width * rng.uniform(0.5, 0.95))
            while left + 6 * zoom <= end:
                if rng.uniform() < 0.9:
                    dark = numpy.kron(glyphs[int(rng.integers(0, 10))], numpy.ones((zoom, zoom))) > 0
                    one[:, top : top + 7 * zoom, left : left + 5 * zoom][:, dark] = 0.1
                left += 6 * zoom
            top += 12 * zoom + int(rng.integers(0, 8))
    return scaled(result, rng, 0.01, numbers)


def page_nhwc(rng, shape, numbers):
    batch, height, width, channels = shape
    return page(rng, (batch, channels, height, width), numbers).transpose(0, 2, 3, 1)


KINDS = {
    "normal": normal,
    "uniform": lambda rng, shape, numbers: rng.uniform(numbers[0], numbers[1], shape),
    "int": lambda rng, shape, numbers: rng.integers(int(numbers[0]), int(numbers[1]), shape),
    "const": lambda rng, shape, numbers: numpy.full(shape, numbers[0]),
    "mask": mask,
    "audio": audio,
    "image": image,
    "page": page,
    "page_nhwc": page_nhwc,
}

"""Write the small data set that the training examples learn: scikit-learn's copy of UCI's optical digits.

    pip install scikit-learn
    python make_digits.py [--out FILE]     # default: digits/digits.bin next to this script

Each of the 1797 rows is 65 bytes: the 64 pixels of an 8x8 image, row by row, each 0 to 16, then the digit, 0 to 9.
"""

import argparse
from pathlib import Path

import numpy
from sklearn.datasets import load_digits


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "digits" / "digits.bin")
    out = parser.parse_args().out
    digits = load_digits()
    rows = numpy.column_stack([digits.data, digits.target])
    assert rows.shape == (1797, 65) and rows.min() == 0 and rows.max() == 16
    out.parent.mkdir(exist_ok=True)
    out.write_bytes(rows.astype(numpy.uint8).tobytes())


if __name__ == "__main__":
    main()

"""The tests of the codec judge it by `oracle`, protobuf's own reading, which the fuzz targets use too."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[2] / "fuzz"), str(Path(__file__).parent)]

"""Generates the multi-MNIST data set that AIR is trained on.

python multi_mnist.py
python multi_mnist.py --output five --max-digits 5 --canvas-size 80 80 --gap 2
"""

import dataclasses
import sys
import time
from pathlib import Path

from air.data.generator import GeneratorConfig
from air.support import cli


@dataclasses.dataclass
class Arguments:
    output: Path = Path("multi_mnist")
    """Folder to write; it must not exist yet."""
    mnist: Path | None = None
    """Digits to use: an .npz file like Keras', or a folder of IDX files; otherwise the bundled MNIST."""
    overwrite: bool = False
    """Replace a data set that is in the output folder."""
    generator: GeneratorConfig = dataclasses.field(default_factory=GeneratorConfig)


def main() -> None:
    arguments = cli.parse(Arguments, "Generates the multi-MNIST data set: scenes of several digits that don't overlap.")
    config = arguments.generator

    from tqdm import tqdm

    from air.data.multi_mnist import make_dataset

    start = time.perf_counter()
    # Without a terminal there is no bar, so that a log gets errors only.
    with tqdm(total=config.total_scenes, unit=" scenes", file=sys.stderr, disable=None, leave=False) as bar:
        make_dataset(arguments.output, config, arguments.mnist, overwrite=arguments.overwrite, progress=bar.update)
    seconds = time.perf_counter() - start
    print(f"{arguments.output}: {config.total_scenes:,} scenes of 0 to {config.max_digits} digits in {seconds:.1f} s")


if __name__ == "__main__":
    cli.run(main)

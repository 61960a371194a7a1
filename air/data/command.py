"""Generate the multi-MNIST data set: scenes of several digits that don't overlap.

    python multi_mnist.py
    python multi_mnist.py --output five --max-digits 5 --canvas-size 80 80 --gap 2
    python multi_mnist.py --output broad --scenes broad      # digits as people draw them

The files are train.npz, validation.npz, test.npz, preview.png and config.json.
"""

import dataclasses
import time
from pathlib import Path

from air.data.multi_mnist import make_dataset
from air.data.rules import SCENES, GeneratorConfig, SceneName
from air.support import cli
from air.support.console import stage


@dataclasses.dataclass
class Arguments:
    scenes: SceneName = "default"
    """Defaults of the flags below: MNIST's digits unchanged, or of many sizes, strokes and greys, as people draw them."""
    output: Path = Path("multi_mnist")
    """Folder to write."""
    mnist: Path | None = None
    """Digits to use: an .npz file like Keras', or a folder of IDX files; the bundled MNIST if not given."""
    overwrite: bool = False
    """Replace a data set in the output folder."""
    generator: GeneratorConfig = dataclasses.field(default_factory=GeneratorConfig)


def main() -> None:
    kind = cli.peek("--scenes")
    arguments = cli.parse(Arguments, __doc__, default=Arguments(generator=SCENES.get(kind, GeneratorConfig())))
    config = arguments.generator
    start = time.perf_counter()
    with stage("Generating scenes", config.total_scenes) as advance:
        make_dataset(arguments.output, config, arguments.mnist, overwrite=arguments.overwrite, progress=advance)
    seconds = time.perf_counter() - start
    number, what = (
        f"{config.min_digits} to {config.max_digits}",
        "objects" if isinstance(config.objects, Path) else config.objects,
    )
    print(f"{arguments.output}: {config.total_scenes:,} scenes of {number} {what} in {seconds:.1f} s")


def script() -> None:
    """Run the command air-scenes, or multi_mnist.py."""
    cli.run(main)

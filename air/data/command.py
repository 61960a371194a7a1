"""Generate the multi-MNIST data set, scenes of several digits that don't overlap, or scenes of other objects.

    python multi_mnist.py
    python multi_mnist.py --output five --max-digits 5 --canvas-size 80 80 --gap 2
    python multi_mnist.py --output broad --scenes broad      # digits as people draw them
    python multi_mnist.py --output shapes --scenes shapes    # in colour, and covering each other
    python multi_mnist.py --output photos --background photos --background-blur 1 3 --channels 3
    python multi_mnist.py --output icons --objects my_icons --background plain --channels 3

The files are train.npz (or train_0.npz, train_1.npz ...), validation.npz, test.npz, preview.png and config.json.
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
    """Defaults of the flags below: MNIST's digits unchanged; of many sizes, strokes and greys, as people draw them (broad);
    over noise, grids, gradients and blurred photos, or paper, also dark on light; coloured shapes that cover each other;
    letters of many fonts; or those on which the preset of that name was trained (original, pyro, kosiorek, borea17, numpy)."""
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
    what = "objects" if isinstance(config.objects, Path) else config.objects
    number = f"{config.min_digits} to {config.max_digits} {what}"
    print(f"{arguments.output}: {config.total_scenes:,} scenes of {number} in {seconds:.1f} s")


def script() -> None:
    """Run the command air-scenes, or multi_mnist.py."""
    cli.run(main)

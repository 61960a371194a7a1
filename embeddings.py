"""Exports z_what of the objects in scenes for TensorBoard's projector, and as plots and arrays.

    python embeddings.py                                 # of the test scenes, by the model in model/, into embeddings/
    python embeddings.py --run air_results --sprite crop --output mine
    tensorboard --logdir embeddings                      # then open http://localhost:6006/#projector

`air/embeddings/export.py` describes the files.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from air.config import DEFAULT_DATA
from air.embeddings.config import OWN_FILES, EmbeddingsConfig
from air.errors import DataError
from air.support import cli, files

Path_ = Annotated[Path, tyro.conf.arg(metavar="PATH")]


@dataclasses.dataclass(frozen=True)
class Arguments:
    run: Path_ = Path("model")
    """Run folder, folder with air.keras or .keras file."""
    data: Path_ = DEFAULT_DATA
    """Folder with test.npz and train.npz, or one file of scenes, labelled or not; made when it is the default and missing."""
    mnist: Path_ | None = None
    """MNIST as an .npz of Keras' format or a folder of IDX files, if the scenes are not made of the bundled one."""
    output: Path_ = Path("embeddings")
    """Folder to write; it must not exist yet."""
    overwrite: bool = False
    """Replace embeddings that are in the output folder."""
    embeddings: EmbeddingsConfig = dataclasses.field(default_factory=EmbeddingsConfig)


def main() -> None:
    arguments = cli.parse(Arguments, __doc__)
    for path in (arguments.run, arguments.data):  # here, because a mistake should not wait for TensorFlow
        if not path.exists() and path != DEFAULT_DATA:
            raise DataError(f"{path}: no such file or folder")
    files.check_replaceable(arguments.output, arguments.overwrite, OWN_FILES, "embeddings")
    with cli.quiet_import():
        from air.embeddings import export

    exported = export.export(
        arguments.run,
        arguments.output,
        arguments.embeddings,
        data=arguments.data,
        mnist_path=arguments.mnist,
        overwrite=arguments.overwrite,
    )
    print(export.describe(exported))
    print(f"Written: {arguments.output}. See it with: tensorboard --logdir {arguments.output}")
    print("then open http://localhost:6006/#projector")


if __name__ == "__main__":
    cli.run(main)

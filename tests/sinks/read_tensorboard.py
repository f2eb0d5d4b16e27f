"""Reads event files with TensorBoard's own reader and prints what it found as JSON; a script.

    python read_tensorboard.py FOLDER

It needs no package of ours, so that any interpreter with TensorBoard can run it.
"""

import json
import logging
import sys
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util import tensor_util

NO_LIMIT = dict.fromkeys(("scalars", "tensors", "images"), 0)


def points(found: Any) -> list[list[float]]:
    """Steps, values and times."""
    return [[each.step, each.value, each.wall_time] for each in found]


def tensors(found: Any) -> list[list[Any]]:
    """Steps and values; texts as text."""
    result = []
    for each in found:
        array = tensor_util.make_ndarray(each.tensor_proto)
        values = [v.decode() if isinstance(v, bytes) else v for v in array.ravel().tolist()]
        result.append([each.step, list(array.shape), values])
    return result


def hparams(reader: Any) -> dict[str, Any]:
    """What the session's description says."""
    try:
        contents = reader.PluginTagToContent("hparams")
    except KeyError:
        return {}
    found: dict[str, Any] = {}
    for tag, content in contents.items():
        data = plugin_data_pb2.HParamsPluginData.FromString(content)
        if tag.endswith("start_info"):
            found["started"] = data.session_start_info.start_time_secs
            for name, value in data.session_start_info.hparams.items():
                found[name] = getattr(value, value.WhichOneof("kind"))
        elif tag.endswith("end_info"):
            found["status"] = data.session_end_info.status
    return found


def main() -> None:
    """Read one folder."""
    logging.disable()
    reader = EventAccumulator(sys.argv[1], size_guidance=NO_LIMIT, purge_orphaned_data=True)
    reader.Reload()
    tags = reader.Tags()
    print(  # noqa: T201 - the answer
        json.dumps(
            {
                "version": reader.file_version,
                "scalars": {tag: points(reader.Scalars(tag)) for tag in tags["scalars"]},
                "tensors": {tag: tensors(reader.Tensors(tag)) for tag in tags["tensors"]},
                "images": {
                    tag: [[i.step, i.width, i.height, i.encoded_image_string.hex()] for i in found]
                    for tag in tags["images"]
                    for found in [reader.Images(tag)]
                },
                "hparams": hparams(reader),
            }
        )
    )


if __name__ == "__main__":
    main()

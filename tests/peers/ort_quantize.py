#!/usr/bin/env python3
"""What ONNX Runtime's static quantization loses on a Keras VGG: drop and agreement against its own f32.

    ort_quantize.py WEIGHTS.h5 CALIB TEST [METHOD ...]

QDQ, int8 weights per channel, uint8 activations; METHOD is minmax, entropy or percentile (default: minmax). CALIB and TEST hold
one folder of pictures a class. Preprocessing is read from WEIGHTS.preprocess.toml. Prints rows for a Markdown table.
"""

import pathlib
import sys
import tempfile
import time
import tomllib

import h5py
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


def network(weights, path):
    """Writes the network as ONNX, NCHW, ending in logits; returns height and width of its input."""
    import json

    with h5py.File(weights) as f:
        layers = json.loads(f.attrs["model_config"])["config"]["layers"]
        kernels = {}
        f["model_weights"].visititems(
            lambda name, d: kernels.setdefault(name.split("/")[0], {}).update(
                {name.rsplit("/", 1)[1].split(":")[0]: np.asarray(d)}
            )
            if isinstance(d, h5py.Dataset)
            else None
        )
    nodes, tensors, x, size = [], [], "input", None

    def add(op, name, constants=(), **attributes):
        nonlocal x
        for i, value in enumerate(constants):
            tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), f"{name}.{i}"))
        inputs = [x] + [f"{name}.{i}" for i in range(len(constants))]
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        x = name

    for layer in layers:
        kind, config, name = layer["class_name"], layer["config"], layer["config"]["name"]
        if kind == "InputLayer":
            size = (config.get("batch_shape") or config["batch_input_shape"])[1:3]
        elif kind == "Conv2D":
            k = kernels[name]
            add("Conv", name, [k["kernel"].transpose(3, 2, 0, 1), k["bias"]], pads=[1, 1, 1, 1])
        elif kind == "MaxPooling2D":
            add("MaxPool", name, kernel_shape=[2, 2], strides=[2, 2])
        elif kind == "GlobalAveragePooling2D":
            add("GlobalAveragePool", name)
            add("Flatten", name + ".flat")
        elif kind == "Dense":
            add("Gemm", name, [kernels[name]["kernel"], kernels[name]["bias"]])
        elif kind != "Dropout":
            sys.exit(f"layer `{name}`: {kind} is not known")
        if config.get("activation") == "relu":
            add("Relu", name + ".relu")
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "vgg", [value("input", ["n", 3, *size])], [value(x, ["n", "classes"])], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return size


def pictures(folder, size, rule):
    """NCHW f32 pictures and the index of each one's folder."""
    values, classes = [], []
    for c, sub in enumerate(sorted(p for p in pathlib.Path(folder).iterdir() if p.is_dir())):
        for file in sorted(sub.glob("*.jpg")):
            image = Image.open(file).convert("RGB").resize((size[1], size[0]), Image.BILINEAR)
            pixels = np.asarray(image, np.float32)
            pixels = pixels[..., ::-1] if rule["order"] == "bgr" else pixels
            x = (pixels * rule["scale"] - np.array(rule["mean"])) / np.array(rule["std"])
            values.append(x.astype(np.float32).transpose(2, 0, 1))
            classes.append(c)
    return np.stack(values), np.array(classes)


class Reader(CalibrationDataReader):
    def __init__(self, x):
        self.rest = iter(x)

    def get_next(self):
        x = next(self.rest, None)
        return None if x is None else {"input": x[None]}


def logits(path, x):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": x[i : i + 10]})[0] for i in range(0, len(x), 10)])


def main():
    weights, calib, test = sys.argv[1:4]
    rule = tomllib.loads(pathlib.Path(weights).with_suffix(".preprocess.toml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, int8 = (f"{folder}/{name}.onnx" for name in ("plain", "ready", "int8"))
        size = network(weights, plain)
        quant_pre_process(plain, ready)
        seen, (x, truth) = pictures(calib, size, rule)[0], pictures(test, size, rule)
        wanted = logits(plain, x).argmax(1)
        top1 = 100 * (wanted == truth).mean()
        for method in sys.argv[4:] or ["minmax"]:
            start = time.time()
            quantize_static(
                ready,
                int8,
                Reader(seen),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=METHODS[method],
            )
            seconds = time.time() - start
            found = logits(int8, x).argmax(1)
            drop, agreement = top1 - 100 * (found == truth).mean(), 100 * (found == wanted).mean()
            name = f"onnxruntime {ort.__version__} {method}"
            stem = pathlib.Path(weights).stem
            print(f"| {stem} | {name} | {top1:.1f} | {drop:.1f} | {agreement:.1f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()

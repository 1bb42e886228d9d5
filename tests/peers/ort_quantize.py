#!/usr/bin/env python3
"""What ONNX Runtime's static quantization loses on a Keras VGG: drop, agreement and divergence against f32.

    ort_quantize.py WEIGHTS.h5 CALIB TEST [METHOD ...] [--save FOLDER]

QDQ, int8 weights per channel, uint8 activations; METHOD is minmax, entropy or percentile (default: all). CALIB and TEST hold
one folder of pictures a class. Preprocessing is read from WEIGHTS.preprocess.toml. Prints a Markdown table: with the quantized
network's layers in f32, which is what the format says, and on ONNX Runtime's int8 kernels for this CPU. Seconds are the
processor's, over all threads, of the quantization alone.

JPEG decoders and resizers differ by a step here and there, which moves a picture or two. `--save` writes what is needed to
measure another tool on the very same: the pictures as they go into the network, as PNG, in FOLDER/calib and FOLDER/test, and
the f32 network as FOLDER/STEM.onnx.
"""

import argparse
import contextlib
import json
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
# Pictures whose maps ONNX Runtime holds at once: all maps of 500 pictures of 96x96 would be 10 GB.
STRIDE = 20


def network(weights, path):
    """Writes the network as ONNX, NCHW, ending in logits; returns height and width of its input."""
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
        elif kind == "Flatten":
            # Keras' order: rows, columns, channels.
            add("Transpose", name + ".nhwc", perm=[0, 2, 3, 1])
            add("Flatten", name)
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


def pictures(folder, size, rule, save=None):
    """NCHW f32 pictures and the index of each one's folder."""
    values, classes = [], []
    for c, sub in enumerate(sorted(p for p in pathlib.Path(folder).iterdir() if p.is_dir())):
        for file in sorted(p for p in sub.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
            image = Image.open(file).convert("RGB").resize((size[1], size[0]), Image.BILINEAR)
            if save:
                to = save / sub.name / file.with_suffix(".png").name
                to.parent.mkdir(parents=True, exist_ok=True)
                image.save(to)
            pixels = np.asarray(image, np.float32)
            pixels = pixels[..., ::-1] if rule["order"] == "bgr" else pixels
            x = (pixels * rule["scale"] - np.array(rule["mean"])) / np.array(rule["std"])
            values.append(x.astype(np.float32).transpose(2, 0, 1))
            classes.append(c)
    if not values:
        sys.exit(f"{folder}: no sub-folder with JPEG or PNG files")
    return np.stack(values), np.array(classes)


class Reader(CalibrationDataReader):
    def __init__(self, x):
        self.x = x
        self.set_range(0, len(x))

    def __len__(self):
        return len(self.x)

    def set_range(self, start_index, end_index):
        self.rest = iter(self.x[start_index:end_index])

    def get_next(self):
        x = next(self.rest, None)
        return None if x is None else {"input": x[None]}


def logits(path, x, in_float=False):
    """`in_float` runs a QDQ network as it is written, every layer in f32 between its rounded values, instead of by integer kernels:
    those of CPUs without VNNI add pairs of products in 16 bits, which saturate, and accuracy would be the CPU's."""
    options = ort.SessionOptions()
    if in_float:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": x[i : i + 10]})[0] for i in range(0, len(x), 10)])


def log_softmax(x):
    x = x.astype(np.float64) - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def mean_kl(wanted, found):
    """Divergence of the probabilities from f32's, nats."""
    p, q = log_softmax(wanted), log_softmax(found)
    return (np.exp(p) * (p - q)).sum(1).mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", type=pathlib.Path)
    parser.add_argument("calib")
    parser.add_argument("test")
    parser.add_argument("methods", nargs="*", metavar="METHOD")
    parser.add_argument("--save", type=pathlib.Path, metavar="FOLDER")
    args = parser.parse_args()
    methods = args.methods or list(METHODS)
    if unknown := set(methods) - set(METHODS):
        parser.error(f"method {unknown.pop()}, expected {', '.join(METHODS)}")
    rule = tomllib.loads(args.weights.with_suffix(".preprocess.toml").read_text())
    if rule["resize"] != "stretch" or rule["filter"] != "bilinear":
        sys.exit("preprocessing resizes in another way than stretch, bilinear: not known here")
    save = (lambda what: args.save / what) if args.save else lambda what: None
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, int8 = (f"{folder}/{name}.onnx" for name in ("plain", "ready", "int8"))
        size = network(args.weights, plain)
        seen, (x, truth) = pictures(args.calib, size, rule, save("calib"))[0], pictures(args.test, size, rule, save("test"))
        if args.save:
            (args.save / f"{args.weights.stem}.onnx").write_bytes(pathlib.Path(plain).read_bytes())
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        wanted = logits(plain, x)
        top1 = 100 * (wanted.argmax(1) == truth).mean()
        stride = next(n for n in range(min(STRIDE, len(seen)), 0, -1) if len(seen) % n == 0)
        print(f"onnxruntime {ort.__version__}, {len(seen)} pictures to calibrate, {len(x)} to measure\n")
        print("| network | method | kernels | f32 top-1 % | drop | agreement % | mean KL | processor s |")
        print("|---|---|---|---:|---:|---:|---:|---:|")
        for method in methods:
            start = time.process_time()
            with contextlib.redirect_stdout(sys.stderr):
                quantize_static(
                    ready,
                    int8,
                    Reader(seen),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=METHODS[method],
                    extra_options={"CalibStridedMinMax": stride},
                )
            seconds = time.process_time() - start
            for kernels, in_float in (("f32", True), ("int8", False)):
                found = logits(int8, x, in_float)
                drop = top1 - 100 * (found.argmax(1) == truth).mean()
                agreement = 100 * (found.argmax(1) == wanted.argmax(1)).mean()
                print(
                    f"| {args.weights.stem} | onnxruntime {method} | {kernels} | {top1:.2f} | {drop:.2f} | {agreement:.2f} "
                    f"| {mean_kl(wanted, found):.6f} | {seconds:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

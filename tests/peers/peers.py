"""Measures `classify bench` against ONNX Runtime, OpenVINO and ncnn on one VGG16, on this machine.

  peers.py convert NETWORK.onnx PICTURES FOLDER      the peers' models, into FOLDER
  peers.py measure FOLDER CLASSIFY MODEL.vgg [--threads 1,2] [--rounds 7] [--runs 3] [--json FILE]

NETWORK.onnx is the f32 network, NCHW 224x224x3, flattened in CHW order; PICTURES is a folder of JPEGs for calibration.
Every program and number of threads takes its turn in each round, in a process of its own: after one run that does not
count, `--runs` that do. The table has the median over all of them and the least. `cosine` compares a peer's output for
one picture with f32's: they all compute the same network.
"""
import argparse
import importlib.metadata
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

SIDE = 224
PEERS = ("ort-f32", "ort-int8", "openvino-f32", "openvino-int8", "ncnn-f32", "ncnn-int8")
# ncnn's mark of an int8 weight blob, and of an f32 one.
NCNN_INT8, NCNN_F32 = 0x000D4B38, 0


def pictures(folder, n=None):
    """Pictures as the network takes them: BGR less the mean of ImageNet, 1x3x224x224."""
    from PIL import Image

    paths = sorted(p for p in pathlib.Path(folder).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        sys.exit(f"{folder}: no JPEG or PNG files")
    for path in paths[:n]:
        image = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.BILINEAR)
        bgr = np.asarray(image, np.float32)[:, :, ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
        yield np.ascontiguousarray(bgr.transpose(2, 0, 1)[None])


def convert_ort(network, folder, samples):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(samples)

        def get_next(self):
            sample = next(self.rest, None)
            return None if sample is None else {"input": sample}

    quantize_static(
        str(network), str(folder / "ort-int8.onnx"), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )


def convert_openvino(network, folder, samples):
    import nncf
    import openvino as ov

    model = ov.convert_model(str(network), input=[1, 3, SIDE, SIDE])
    ov.save_model(model, str(folder / "openvino-f32.xml"), compress_to_fp16=False)
    model = nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples))
    ov.save_model(model, str(folder / "openvino-int8.xml"), compress_to_fp16=False)


def largest(network, samples):
    """The largest magnitude of every layer's input over the samples."""
    import onnx
    import onnxruntime as ort

    model = onnx.load(str(network))
    wanted = [node.input[0] for node in model.graph.node if node.op_type in ("Conv", "Gemm") and node.input[0] != "input"]
    wanted = list(dict.fromkeys(wanted))
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    most = {"input": max(float(np.abs(sample).max()) for sample in samples)}
    for sample in samples:
        for name, value in zip(wanted, session.run(wanted, {"input": sample})):
            most[name] = max(most.get(name, 0.0), float(np.abs(value).max()))
    return most


def convert_ncnn(network, folder, samples):
    """ncnn's own files, written as its `ncnn2int8` writes them: the Python package has no tools. A convolution whose
    output goes to another one alone gives int8 (102), others f32 (2)."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(network))
    weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    most = largest(network, samples)
    nodes = [n for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MaxPool")]
    for int8 in (False, True):
        name = f"ncnn-{'int8' if int8 else 'f32'}"
        lines, last = ["Input data 0 1 data"], "data"
        with open(folder / f"{name}.bin", "wb") as data:
            for i, node in enumerate(nodes):
                this, follower = node.name, nodes[i + 1] if i + 1 < len(nodes) else None
                if node.op_type == "MaxPool":
                    lines.append(f"Pooling {this} 1 1 {last} {this} 0=0 1=2 2=2")
                    last = this
                    continue
                w, bias = weights[node.input[1]], weights[node.input[2]]
                w = w if node.op_type == "Conv" else w.T
                w = np.ascontiguousarray(w.reshape(w.shape[0], -1), np.float32)
                relu = 1 if follower is not None else 0
                chained = node.op_type == "Conv" and follower is not None and follower.op_type == "Conv"
                term = (102 if chained else 2) if int8 else 0
                if int8:
                    scale = 127.0 / np.abs(w).max(axis=1)
                    q = np.clip(np.rint(w * scale[:, None]), -127, 127).astype(np.int8).tobytes()
                    data.write(np.uint32(NCNN_INT8).tobytes() + q + bytes(-len(q) % 4))
                else:
                    data.write(np.uint32(NCNN_F32).tobytes() + w.tobytes())
                data.write(bias.astype(np.float32).tobytes())
                if int8:
                    data.write(scale.astype(np.float32).tobytes())
                    data.write(np.float32(127.0 / most[node.input[0]]).tobytes())
                    if chained:
                        data.write(np.float32(127.0 / most[follower.input[0]]).tobytes())
                if node.op_type == "Conv":
                    lines.append(
                        f"Convolution {this} 1 1 {last} {this} 0={w.shape[0]} 1=3 4=1 5=1 6={w.size} 8={term} 9={relu}"
                    )
                else:
                    lines.append(f"InnerProduct {this} 1 1 {last} {this} 0={w.shape[0]} 1=1 2={w.size} 8={term} 9={relu}")
                last = this
        lines.append(f"Softmax softmax 1 1 {last} softmax 0=0")
        head = f"7767517\n{len(lines)} {len(lines)}\n"
        (folder / f"{name}.param").write_text(head + "\n".join(lines) + "\n")


def convert(args):
    folder = pathlib.Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    network, samples = pathlib.Path(args.network).resolve(), list(pictures(args.pictures, 16))
    (folder / "network").write_text(str(network))
    np.save(folder / "picture.npy", samples[0])
    for step in (convert_ncnn, convert_ort, convert_openvino):
        print(f"{step.__name__} ...", flush=True)
        step(network, folder, samples)


def runner(peer, folder, threads):
    """A function that runs the peer once and gives its output."""
    picture = np.load(folder / "picture.npy")
    kind, dtype = peer.split("-")
    if kind == "ort":
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        path = (folder / "network").read_text() if dtype == "f32" else str(folder / "ort-int8.onnx")
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"input": picture})[0]
    if kind == "openvino":
        import openvino as ov

        config = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        if dtype == "f32":
            config["INFERENCE_PRECISION_HINT"] = "f32"
        request = ov.Core().compile_model(str(folder / f"{peer}.xml"), "CPU", config).create_infer_request()
        return lambda: request.infer([picture])[0]
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    # Otherwise f32 would be half precision or bfloat16 in part.
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    assert net.load_param(str(folder / f"{peer}.param")) == 0 and net.load_model(str(folder / f"{peer}.bin")) == 0

    def run():
        extractor = net.create_extractor()
        extractor.input("data", ncnn.Mat(picture[0]))
        status, out = extractor.extract("softmax")
        assert status == 0
        return np.array(out)

    return run


def run_peer(args):
    """In a process of its own: times and output of one peer, as JSON."""
    run = runner(args.peer, pathlib.Path(args.folder), args.threads)
    output, times = run(), []
    for _ in range(args.runs):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"times": times, "output": np.asarray(output, np.float64).ravel().tolist()}))


def output_of(command):
    """The JSON object of the last line that a command prints."""
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{ran.stderr}")
    return json.loads(ran.stdout.splitlines()[-1])


def ours(args, threads):
    """One process of `classify bench` a run: a median of one is that run."""
    times = []
    for _ in range(args.runs):
        command = [args.classify, "bench", args.model, "--threads", str(threads), "--runs", "1", "--warmup", "1", "--json"]
        found = output_of(command)
        times.append(found["median"])
    return times, found["kernel"]


def measure(args):
    folder = pathlib.Path(args.folder)
    threads = [int(n) for n in args.threads.split(",")]
    times, outputs, kernel = {}, {}, ""
    for i in range(args.rounds):
        print(f"round {i + 1} of {args.rounds}", file=sys.stderr, flush=True)
        for n in threads:
            found, kernel = ours(args, n)
            times.setdefault(("vgg-edge", n), []).extend(found)
            for peer in PEERS:
                command = [sys.executable, __file__, "run", str(folder), peer, str(n), str(args.runs)]
                found = output_of(command)
                times.setdefault((peer, n), []).extend(found["times"])
                outputs[peer] = np.array(found["output"])
    expected = outputs["ort-f32"]
    cosine = {p: float(o @ expected / np.linalg.norm(o) / np.linalg.norm(expected)) for p, o in outputs.items()}
    versions = {name: importlib.metadata.version(name) for name in ("onnxruntime", "openvino", "nncf", "ncnn")}
    print(f"{', '.join(f'{name} {version}' for name, version in versions.items())}; ours: {kernel}; {os.cpu_count()} CPUs")
    table = {}
    for n in threads:
        print(f"\n| {n} thread{'s' if n > 1 else ''} | median ms | least ms | median / ours | least / ours | cosine |")
        print("|---|---|---|---|---|---|")
        median = {p: statistics.median(times[p, n]) for p in ("vgg-edge", *PEERS)}
        least = {p: min(times[p, n]) for p in ("vgg-edge", *PEERS)}
        for p in ("vgg-edge", *PEERS):
            ratios = f"{median[p] / median['vgg-edge']:.2f} | {least[p] / least['vgg-edge']:.2f}"
            print(f"| {p} | {median[p]:.1f} | {least[p]:.1f} | {ratios} | {cosine.get(p, 1.0):.4f} |")
        fastest = min(PEERS, key=median.get)
        print(f"\nfastest peer: {fastest}, {median[fastest] / median['vgg-edge']:.2f} of our time")
        table[n] = {"median": median, "least": least, "fastest": fastest}
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"versions": versions, "kernel": kernel, "threads": table}, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(required=True)
    task = tasks.add_parser("convert")
    for name in ("network", "pictures", "folder"):
        task.add_argument(name)
    task.set_defaults(task=convert)
    task = tasks.add_parser("measure")
    for name in ("folder", "classify", "model"):
        task.add_argument(name)
    task.add_argument("--threads", default="1,2")
    task.add_argument("--rounds", type=int, default=7)
    task.add_argument("--runs", type=int, default=3)
    task.add_argument("--json")
    task.set_defaults(task=measure)
    task = tasks.add_parser("run")
    task.add_argument("folder")
    task.add_argument("peer", choices=PEERS)
    task.add_argument("threads", type=int)
    task.add_argument("runs", type=int)
    task.set_defaults(task=run_peer)
    args = parser.parse_args()
    args.task(args)


if __name__ == "__main__":
    main()

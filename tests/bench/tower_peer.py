"""The vision tower in another runtime: reads `go` from standard input and answers with milliseconds of one run.

    python tower_peer.py KIND MODEL BATCH HEIGHT WIDTH THREADS

KIND is `ort` (Python's ONNX Runtime), `openvino-bf16` or `openvino-f32`. The model is an ONNX file with one input of pixels.
"""
import json
import sys
import time

import numpy as np


def ort(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})


def openvino(path, threads, precision):
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    model = core.compile_model(core.read_model(path), "CPU", settings)
    request = model.create_infer_request()
    return lambda pixels: request.infer([pixels])


def main():
    kind, path = sys.argv[1:3]
    batch, height, width, threads = map(int, sys.argv[3:7])
    start = time.perf_counter()
    run = ort(path, threads) if kind == "ort" else openvino(path, threads, kind.removeprefix("openvino-"))
    count = batch * 3 * height * width
    pixels = np.sin(np.arange(count, dtype=np.float32) * 0.37).reshape(batch, 3, height, width)
    run(pixels)
    print(json.dumps({"ready": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        if line.strip() == "go":
            start = time.perf_counter()
            run(pixels)
            print(json.dumps({"ms": 1000 * (time.perf_counter() - start)}), flush=True)


if __name__ == "__main__":
    main()

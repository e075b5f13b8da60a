"""Networks of PyTorch in engines that only infer, each at its best setting for float32."""

import io
import warnings

import numpy as np
import torch

from flambeau import kernels


def exported(module, t):
    """The bytes of the ONNX file of a PyTorch module in evaluation."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter that works without another package
        torch.onnx.export(module, (t,), file, dynamo=False, input_names=["x"], output_names=["y"])
    return file.getvalue()


def frozen(module, t):
    """A function that runs the module traced, frozen and optimised."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and still a fast way
        fast = torch.jit.optimize_for_inference(torch.jit.trace(module, t))
    return torch.inference_mode()(lambda: fast(t))


def compiled(module, t):
    """A function that runs the module through torch.compile: needs minutes, and a C++ compiler."""
    fast = torch.compile(module)
    run = torch.inference_mode()(lambda: fast(t))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's own modules
        run()
    return run


def onnxruntime(file, x):
    """A function that runs the ONNX file: all graph optimisations, threads spin inside a run."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = kernels.get_num_threads()
    # its threads spin between the layers of a run, not on into the turns of the others
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = ort.InferenceSession(file, options, ["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def openvino(file, x):
    """A function that runs the ONNX file: for latency, in float32 where bfloat16 would be taken."""
    import openvino as ov

    core = ov.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": kernels.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(core.read_model(file), "CPU", settings).create_infer_request()

    def run():
        request.infer({0: x}, share_inputs=True, share_outputs=True)
        return request.get_output_tensor().data

    return run


def agree(outputs, tolerance=1e-3):
    """Raise unless every output is the first one's, within tolerance of its largest value."""
    (first, y), *others = ((name, np.array(y)) for name, y in outputs.items())
    for name, other in others:
        error = np.abs(other - y).max() / np.abs(y).max()
        if not error < tolerance:
            raise AssertionError(f"{name} and {first} differ by {error:.1e} of the largest value")

"""Static INT8 quantization of ONNX files, as quantize-dequantize (QDQ) pairs that runtimes fuse."""

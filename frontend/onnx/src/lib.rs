//! Reading ONNX models into the Graph IR.

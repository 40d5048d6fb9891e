#!/usr/bin/env python3
"""Writes cases of classical machine learning to OUT/ml/CASE/ in the standard layout.

    python3 tests/conformance/generate_ml.py [OUT]        (OUT: target/conformance-ml)

Cases are one-operator models of every operator of ai.onnx.ml, and models that scikit-learn trains and
skl2onnx converts. The reference is onnxruntime with its optimisations off. The virtual environment, the
layout and the stamp are as in generate.py; everything is drawn with fixed seeds.
"""
import json
import os
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve()
sys.path.insert(0, str(SCRIPT.parent))
import generate  # noqa: E402

generate.SCRIPT = SCRIPT
generate.SCRIPTS = [SCRIPT]
generate.FOLDER = "conformance-ml"
generate.PACKAGES = ["onnx==1.19.1", "onnxruntime==1.32.0", "skl2onnx==1.20.0", "scikit-learn==1.9.1", "numpy==2.4.6"]


def write_all(out):
    """Every case. Runs inside the environment."""
    import warnings

    warnings.filterwarnings("ignore")
    generate_cases = [*tree_cases(), *linear_cases(), *feature_cases(), *map_cases(), *sklearn_cases()]
    names = [case[0] for case in generate_cases]
    assert len(names) == len(set(names)), "two cases have one name"
    for name, model, sets, tolerance in generate_cases:
        write_case(out / "ml" / name, model, sets, tolerance)
    print(f"{len(names)} cases in {out}")


generate.write_all = write_all


def write_case(folder, model, sets, tolerance):
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    for number, inputs in enumerate(sets):
        data_set = folder / f"test_data_set_{number}"
        data_set.mkdir()
        outputs = session.run(None, dict(zip((i.name for i in model.graph.input), inputs)))
        for role, values in [("input", inputs), ("output", outputs)]:
            for at, value in enumerate(values):
                (data_set / f"{role}_{at}.pb").write_bytes(to_proto(value).SerializeToString())
    (folder / "meta.json").write_text(json.dumps(tolerance) + "\n")


def to_proto(value):
    import numpy
    from onnx import MapProto, SequenceProto, TensorProto, numpy_helper

    if isinstance(value, dict):
        proto = MapProto()
        if all(isinstance(key, str) for key in value):
            proto.key_type = TensorProto.STRING
            proto.string_keys.extend(key.encode() for key in value)
        else:
            proto.key_type = TensorProto.INT64
            proto.keys.extend(value)
        narrow = {float: numpy.float32, int: numpy.int64}
        values = [numpy.asarray(v, dtype=narrow.get(type(v))) for v in value.values()]
        proto.values.CopyFrom(to_proto(values))
        return proto
    if isinstance(value, list):
        proto = SequenceProto()
        for element in value:
            inner = to_proto(element)
            if isinstance(inner, MapProto):
                proto.elem_type = SequenceProto.MAP
                proto.map_values.append(inner)
            else:
                proto.elem_type = SequenceProto.TENSOR
                proto.tensor_values.append(inner)
        return proto
    value = numpy.asarray(value)
    if value.dtype.kind == "U":
        value = value.astype(object)
    return numpy_helper.from_array(value)


CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def node_case(name, op, inputs, outputs, attributes, tolerance=CLOSE, version=3, types=None):
    """A model of one node; inputs are arrays, dicts or (array, symbolic shape), outputs (type, shape)."""
    from onnx import helper

    names = [f"x{i}" for i in range(len(inputs))]
    out_names = [f"y{i}" for i in range(len(outputs))]
    node = helper.make_node(op, names, out_names, name=op.lower(), domain="ai.onnx.ml", **attributes)
    infos = [info(n, value, (types or {}).get(i)) for i, (n, value) in enumerate(zip(names, inputs))]
    out_infos = [o if not isinstance(o, tuple) else helper.make_tensor_value_info(n, *o) for n, o in zip(out_names, outputs)]
    for n, o in zip(out_names, out_infos):
        o.name = n
    graph = helper.make_graph([node], name, infos, out_infos)
    opsets = [helper.make_opsetid("ai.onnx.ml", version), helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return name, model, [inputs], tolerance


def info(name, value, type_proto=None):
    from onnx import helper

    if type_proto is not None:
        return helper.make_value_info(name, type_proto)
    kind = helper.np_dtype_to_tensor_dtype(value.dtype) if value.dtype != object else 8
    shape = [f"n{name}", *value.shape[1:]] if value.ndim else []
    return helper.make_tensor_value_info(name, kind, shape)


# Trees.

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def random_trees(random, trees, depth, features, targets, modes, prefix, per_leaf=1, positive=False, missing=False):
    """The attributes of the older tree operators."""
    a = {k: [] for k in ["nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values",
                         "nodes_truenodeids", "nodes_falsenodeids", "nodes_missing_value_tracks_true"]}
    w = {k: [] for k in ["treeids", "nodeids", "ids", "weights"]}
    for tree in range(trees):
        counter = [0]

        def grow(level):
            own = counter[0]
            counter[0] += 1
            leaf = level == depth or (level > 0 and random.random() < 0.2)
            at = len(a["nodes_modes"])
            for key in a:
                a[key].append(0)
            a["nodes_treeids"][at], a["nodes_nodeids"][at] = tree, own
            a["nodes_modes"][at] = "LEAF" if leaf else modes[random.integers(len(modes))]
            a["nodes_values"][at] = 0.0 if leaf else float(numpy_round(random.uniform(-2, 2)))
            a["nodes_featureids"][at] = 0 if leaf else int(random.integers(features))
            a["nodes_missing_value_tracks_true"][at] = int(missing and not leaf and random.random() < 0.5)
            if leaf:
                for target in random.choice(targets, size=min(per_leaf, targets), replace=False):
                    w["treeids"].append(tree)
                    w["nodeids"].append(own)
                    w["ids"].append(int(target))
                    w["weights"].append(float(random.uniform(0 if positive else -1, 1)))
                return own
            a["nodes_truenodeids"][at] = grow(level + 1)
            a["nodes_falsenodeids"][at] = grow(level + 1)
            return own

        grow(0)
    if not missing:
        del a["nodes_missing_value_tracks_true"]
    return {**a, **{f"{prefix}_{k}": v for k, v in w.items()}}


def numpy_round(x):
    return round(x * 2) / 2  # halves, so that equality happens


def rows(random, count, features, dtype="float32", missing=False):
    import numpy

    x = numpy.round(random.uniform(-3, 3, (count, features)) * 2) / 2
    if missing:
        x[random.random(x.shape) < 0.2] = numpy.nan
    return x.astype(dtype)


def tree_cases():
    import numpy

    F, D, I = 1, 11, 7
    for mode in MODES:
        random = numpy.random.default_rng(MODES.index(mode))
        attributes = random_trees(random, 5, 4, 6, 1, [mode], "target")
        yield node_case(f"tree_regressor_{mode.lower()}", "TreeEnsembleRegressor", [rows(random, 20, 6)],
                        [(F, [None, 1])], dict(attributes, n_targets=1))
    for aggregate in ["SUM", "AVERAGE", "MIN", "MAX"]:
        for post in ["NONE", "SOFTMAX", "LOGISTIC"]:
            random = numpy.random.default_rng(17)
            attributes = random_trees(random, 7, 5, 6, 3, MODES, "target", per_leaf=3)
            yield node_case(f"tree_regressor_{aggregate.lower()}_{post.lower()}", "TreeEnsembleRegressor",
                            [rows(random, 20, 6)], [(F, [None, 3])],
                            dict(attributes, n_targets=3, aggregate_function=aggregate, post_transform=post,
                                 base_values=[0.5, -0.25, 1.0]))
    for dtype in ["float64", "int64", "int32"]:
        random = numpy.random.default_rng(5)
        attributes = random_trees(random, 4, 4, 5, 3, MODES[:2], "class", per_leaf=3)
        yield node_case(f"tree_classifier_of_{dtype}", "TreeEnsembleClassifier", [rows(random, 12, 5, dtype)],
                        [(I, [None]), (F, [None, 3])], dict(attributes, classlabels_int64s=[0, 1, 2]))
    random = numpy.random.default_rng(5)
    attributes = random_trees(random, 4, 4, 5, 2, MODES[:2], "target", per_leaf=2)
    yield node_case("tree_regressor_of_float64", "TreeEnsembleRegressor", [rows(random, 12, 5, "float64")],
                    [(F, [None, 2])], dict(attributes, n_targets=2))
    random = numpy.random.default_rng(6)
    attributes = random_trees(random, 6, 4, 5, 1, MODES[:4], "target", missing=True)
    yield node_case("tree_regressor_missing", "TreeEnsembleRegressor", [rows(random, 30, 5, missing=True)],
                    [(F, [None, 1])], dict(attributes, n_targets=1))
    for post in ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]:
        for classes, positive in [(3, True), (4, False)]:
            random = numpy.random.default_rng(classes)
            attributes = random_trees(random, 6, 4, 5, classes, MODES, "class", per_leaf=classes, positive=positive)
            yield node_case(f"tree_classifier_{classes}_{post.lower()}", "TreeEnsembleClassifier",
                            [rows(random, 15, 5)], [(I, [None]), (F, [None, classes])],
                            dict(attributes, classlabels_int64s=[10 * c for c in range(classes)], post_transform=post))
        for positive in [True, False]:
            random = numpy.random.default_rng(8)
            attributes = random_trees(random, 5, 4, 5, 1, MODES, "class", positive=positive)
            attributes["class_weights"] = [w / 5 for w in attributes["class_weights"]]
            sign = "positive" if positive else "mixed"
            yield node_case(f"tree_classifier_binary_{sign}_{post.lower()}", "TreeEnsembleClassifier",
                            [rows(random, 15, 5)], [(I, [None]), (F, [None, 2])],
                            dict(attributes, classlabels_int64s=[3, 7], post_transform=post))
    random = numpy.random.default_rng(9)
    attributes = random_trees(random, 5, 3, 4, 3, MODES, "class", per_leaf=3)
    yield node_case("tree_classifier_texts", "TreeEnsembleClassifier", [rows(random, 15, 4)],
                    [(8, [None]), (F, [None, 3])],
                    dict(attributes, classlabels_strings=["a", "bb", "ccc"], base_values=[0.1, 0.2, -0.3]))
    attributes = random_trees(random, 5, 3, 4, 2, MODES, "class", per_leaf=2, positive=True)
    yield node_case("tree_classifier_two", "TreeEnsembleClassifier", [rows(random, 15, 4)],
                    [(I, [None]), (F, [None, 2])], dict(attributes, classlabels_int64s=[0, 1]))
    yield from ensemble_cases()


def ensemble_cases():
    """TreeEnsemble of version 5."""
    import numpy
    from onnx import helper

    for dtype, kind in [("float32", 1), ("float64", 11)]:
        for aggregate in range(4):
            random = numpy.random.default_rng(30 + aggregate)
            nodes, leaves, roots = [], [], []

            def grow(level):
                """The index of a node or leaf, and whether it is a leaf."""
                if level == 4 or (level > 0 and random.random() < 0.2):
                    leaves.append((int(random.integers(2)), float(random.uniform(-1, 1))))
                    return len(leaves) - 1, 1
                at = len(nodes)
                nodes.append(None)
                mode = int(random.integers(6))
                yes, no = grow(level + 1), grow(level + 1)
                nodes[at] = (mode, float(numpy_round(random.uniform(-2, 2))), int(random.integers(5)), yes, no)
                return at, 0

            for _ in range(6):
                roots.append(len(nodes))
                grow(0)
            attributes = {
                "nodes_modes": helper.make_tensor("m", 2, [len(nodes)], [n[0] for n in nodes]),
                "nodes_splits": helper.make_tensor("s", kind, [len(nodes)], [n[1] for n in nodes]),
                "nodes_featureids": [n[2] for n in nodes],
                "nodes_truenodeids": [n[3][0] for n in nodes],
                "nodes_trueleafs": [n[3][1] for n in nodes],
                "nodes_falsenodeids": [n[4][0] for n in nodes],
                "nodes_falseleafs": [n[4][1] for n in nodes],
                "leaf_targetids": [leaf[0] for leaf in leaves],
                "leaf_weights": helper.make_tensor("w", kind, [len(leaves)], [leaf[1] for leaf in leaves]),
                "tree_roots": roots, "n_targets": 2, "aggregate_function": aggregate, "post_transform": 0,
            }
            yield node_case(f"tree_ensemble_{dtype}_{aggregate}", "TreeEnsemble", [rows(random, 25, 5, dtype)],
                            [(kind, [None, 2])], attributes, version=5)


# Linear models and support vectors.

def linear_cases():
    import numpy

    F, I = 1, 7
    random = numpy.random.default_rng(1)

    def floats(*shape):
        return [float(x) for x in random.normal(size=shape).astype("float32").ravel()]

    for dtype in ["float32", "float64", "int64", "int32"]:
        yield node_case(f"linear_classifier_of_{dtype}", "LinearClassifier", [rows(random, 6, 4, dtype)],
                        [(I, [None]), (F, [None, 3])],
                        dict(coefficients=floats(3, 4), intercepts=floats(3), classlabels_ints=[4, 5, 9]))
    yield node_case("linear_regressor", "LinearRegressor", [rows(random, 6, 4)], [(F, [None, 3])],
                    dict(coefficients=floats(3, 4), intercepts=floats(3), targets=3))
    yield node_case("linear_regressor_plain", "LinearRegressor", [rows(random, 6, 4)], [(F, [None, 1])],
                    dict(coefficients=floats(4)))
    for post in ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"]:
        yield node_case(f"linear_classifier_{post.lower()}", "LinearClassifier", [rows(random, 6, 4)],
                        [(8, [None]), (F, [None, 3])],
                        dict(coefficients=floats(3, 4), intercepts=floats(3), classlabels_strings=["x", "y", "z"],
                             post_transform=post))
    for post in ["NONE", "LOGISTIC"]:
        yield node_case(f"linear_classifier_binary_{post.lower()}", "LinearClassifier", [rows(random, 6, 4)],
                        [(I, [None]), (F, [None, 2])],
                        dict(coefficients=floats(4), intercepts=floats(1), classlabels_ints=[5, 8],
                             post_transform=post))
    for kernel in ["LINEAR", "POLY", "RBF", "SIGMOID"]:
        common = dict(kernel_type=kernel, kernel_params=[0.3, 0.5, 3.0])
        yield node_case(f"svm_regressor_{kernel.lower()}", "SVMRegressor", [rows(random, 8, 4)], [(F, [None, 1])],
                        dict(common, support_vectors=floats(5, 4), coefficients=floats(5), rho=floats(1), n_supports=5))
        yield node_case(f"svm_one_class_{kernel.lower()}", "SVMRegressor", [rows(random, 8, 4)], [(F, [None, 1])],
                        dict(common, support_vectors=floats(5, 4), coefficients=floats(5), rho=floats(1), n_supports=5,
                             one_class=1))
        for classes in [2, 3, 4]:
            pairs = classes * (classes - 1) // 2
            per_class = [2, 3, 1, 2][:classes]
            vectors = sum(per_class)
            svc = dict(common, support_vectors=floats(vectors, 4), coefficients=floats(classes - 1, vectors),
                       rho=floats(pairs), vectors_per_class=per_class, classlabels_ints=list(range(classes)))
            yield node_case(f"svm_classifier_{kernel.lower()}_{classes}", "SVMClassifier", [rows(random, 8, 4)],
                            [(I, [None]), (F, [None, max(pairs, 2)])], svc)
            yield node_case(f"svm_probabilities_{kernel.lower()}_{classes}", "SVMClassifier", [rows(random, 8, 4)],
                            [(I, [None]), (F, [None, classes])],
                            dict(svc, prob_a=[-abs(x) for x in floats(pairs)], prob_b=floats(pairs)),
                            {"rtol": 1e-3, "atol": 2e-4})
    yield node_case("svm_classifier_without_vectors", "SVMClassifier", [rows(random, 8, 4)],
                    [(I, [None]), (F, [None, 3])],
                    dict(kernel_type="LINEAR", kernel_params=[0.0, 0.0, 0.0], support_vectors=[0.0], coefficients=floats(3, 4), rho=floats(1), classlabels_ints=[0, 1, 2]))
    yield node_case("svm_regressor_without_vectors", "SVMRegressor", [rows(random, 8, 4)], [(F, [None, 1])],
                    dict(kernel_type="LINEAR", kernel_params=[0.0, 0.0, 0.0], support_vectors=[0.0], coefficients=floats(4), rho=floats(1), n_supports=0))


# Features and categories.

def feature_cases():
    import numpy

    F, I, S = 1, 7, 8
    random = numpy.random.default_rng(2)
    for norm in ["MAX", "L1", "L2"]:
        x = rows(random, 6, 4)
        x[2] = 0
        yield node_case(f"normalizer_{norm.lower()}", "Normalizer", [x], [(F, [None, 4])], dict(norm=norm))
        yield node_case(f"normalizer_{norm.lower()}_of_int64", "Normalizer", [rows(random, 6, 4, "int64")],
                        [(F, [None, 4])], dict(norm=norm))
    for dtype in ["float32", "float64", "int64", "int32"]:
        yield node_case(f"scaler_{dtype}", "Scaler", [rows(random, 5, 3, dtype)], [(F, [None, 3])],
                        dict(offset=[0.5, -1.0, 2.0], scale=[2.0, 0.25, -3.0]))
    yield node_case("scaler_one", "Scaler", [rows(random, 5, 3)], [(F, [None, 3])], dict(offset=[0.5], scale=[2.0]))
    yield node_case("binarizer", "Binarizer", [rows(random, 5, 3)], [(F, [None, 3])], dict(threshold=0.5))
    yield node_case("imputer_nan", "Imputer", [rows(random, 8, 3, missing=True)], [(F, [None, 3])],
                    dict(imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=float("nan")))
    yield node_case("imputer_value", "Imputer", [rows(random, 8, 3)], [(F, [None, 3])],
                    dict(imputed_value_floats=[9.0], replaced_value_float=1.0))
    yield node_case("imputer_int64", "Imputer", [rows(random, 8, 3, "int64")], [(I, [None, 3])],
                    dict(imputed_value_int64s=[7, 8, 9], replaced_value_int64=1))
    yield node_case("array_feature_extractor", "ArrayFeatureExtractor",
                    [rows(random, 5, 4), numpy.array([[3, 0, 0]], dtype="int64")], [(F, None)], {})
    yield node_case("array_feature_extractor_texts", "ArrayFeatureExtractor",
                    [numpy.array([["a", "b"], ["c", "d"]], dtype=object), numpy.array([1], dtype="int64")], [(S, None)], {})
    yield node_case("feature_vectorizer", "FeatureVectorizer", [rows(random, 5, 2), rows(random, 5, 3)],
                    [(F, [None, 5])], dict(inputdimensions=[2, 3]))
    numbers = random.integers(0, 6, (4, 3)).astype("int64")
    texts = numpy.array([["a", "b", "q"], ["c", "c", "a"]], dtype=object)
    yield node_case("one_hot_int64", "OneHotEncoder", [numbers], [(F, None)], dict(cats_int64s=[0, 3, 4], zeros=1))
    yield node_case("one_hot_float32", "OneHotEncoder", [numbers.astype("float32")], [(F, None)],
                    dict(cats_int64s=[0, 3, 4], zeros=1))
    yield node_case("one_hot_texts", "OneHotEncoder", [texts], [(F, None)], dict(cats_strings=["a", "b", "c"], zeros=1))
    yield node_case("one_hot_strict", "OneHotEncoder", [numbers], [(F, None)],
                    dict(cats_int64s=[5, 4, 3, 2, 1, 0], zeros=0))
    yield node_case("label_encoder_1_texts", "LabelEncoder", [texts], [(I, None)],
                    dict(classes_strings=["a", "b", "c"], default_int64=-7), version=1)
    yield node_case("label_encoder_1_int64", "LabelEncoder", [numbers], [(S, None)],
                    dict(classes_strings=["a", "b", "c"], default_string="?"), version=1)
    values = {"strings": (S, ["p", "q", "r"]), "int64s": (I, [5, 6, 7]), "floats": (F, [0.5, 1.5, 2.5])}
    keys = {"strings": (texts, ["a", "b", "c"]), "int64s": (numbers, [1, 2, 3]),
            "floats": (numbers.astype("float32"), [1.0, 2.0, float("nan")])}
    for key, (x, key_list) in keys.items():
        for value, (kind, value_list) in values.items():
            attributes = {f"keys_{key}": key_list, f"values_{value}": value_list}
            yield node_case(f"label_encoder_2_{key}_{value}", "LabelEncoder", [x], [(kind, None)], attributes,
                            version=2)
    import onnx.helper as helper

    tensors = dict(keys_tensor=helper.make_tensor("k", 11, [3], [1.0, 2.0, float("nan")]),
                   values_tensor=helper.make_tensor("v", 11, [3], [0.1, 0.2, 0.3]),
                   default_tensor=helper.make_tensor("d", 11, [1], [9.0]))
    x = numpy.array([[1.0, float("nan"), 5.0]])
    yield node_case("label_encoder_4_float64", "LabelEncoder", [x], [(11, None)], tensors, version=4)
    yield node_case("category_mapper_texts", "CategoryMapper", [texts], [(I, None)],
                    dict(cats_strings=["a", "b", "c"], cats_int64s=[11, 22, 33], default_int64=-5))
    yield node_case("category_mapper_int64", "CategoryMapper", [numbers], [(S, None)],
                    dict(cats_strings=["a", "b", "c"], cats_int64s=[1, 2, 3], default_string="none"))


# Maps.

def map_type(key, value):
    from onnx import TensorProto, TypeProto, helper

    return helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, []))


def map_cases():
    import numpy
    from onnx import TypeProto, helper

    F, I, S, D = 1, 7, 8, 11
    random = numpy.random.default_rng(3)
    for key, labels in [("classlabels_int64s", [4, 2, 9]), ("classlabels_strings", ["u", "v", "w"])]:
        out = TypeProto()
        inner = map_type(I if "int" in key else S, F)
        out.sequence_type.elem_type.CopyFrom(inner)
        yield node_case(f"zip_map_{key[12:]}", "ZipMap", [rows(random, 4, 3)],
                        [helper.make_value_info("y0", out)], {key: labels})
    yield node_case("dict_vectorizer_texts", "DictVectorizer", [{"b": 2.5, "zz": 1.0, "a": -1.0}], [(F, None)],
                    dict(string_vocabulary=["a", "b", "c"]), types={0: map_type(S, F)})
    yield node_case("dict_vectorizer_int64", "DictVectorizer", [{3: 2.5, 1: 1.0}], [(F, None)],
                    dict(int64_vocabulary=[1, 2, 3]), types={0: map_type(I, F)})
    for form, most in [("DENSE", 1), ("SPARSE", 5)]:
        # The text of a value that is not there is not defined (onnxruntime writes "0.f").
        for to, kind in [("TO_FLOAT", F), ("TO_INT64", I), ("TO_STRING", S)][: 3 if form == "DENSE" else 2]:
            yield node_case(f"cast_map_{form.lower()}_{to.lower()}", "CastMap", [{2: 2.0, 0: 1.0, 3: -4.0}],
                            [(kind, None)], dict(map_form=form, cast_to=to, max_map=most), types={0: map_type(I, F)})


# Trained models.

def sklearn_cases():
    import numpy
    from sklearn.compose import ColumnTransformer
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import (AdaBoostClassifier, ExtraTreesRegressor, GradientBoostingClassifier,
                                  GradientBoostingRegressor, IsolationForest, RandomForestClassifier,
                                  RandomForestRegressor)
    from sklearn.cluster import KMeans
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
    from sklearn.naive_bayes import BernoulliNB, GaussianNB
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import (Binarizer, KBinsDiscretizer, MinMaxScaler, Normalizer, OneHotEncoder,
                                       OrdinalEncoder, PolynomialFeatures, RobustScaler, StandardScaler)
    from sklearn.svm import SVC, SVR, NuSVC, OneClassSVM
    from sklearn.tree import DecisionTreeClassifier

    sets = {"iris": load_iris(return_X_y=True), "wine": load_wine(return_X_y=True),
            "cancer": load_breast_cancer(return_X_y=True), "diabetes": load_diabetes(return_X_y=True)}
    named = (sets["iris"][0], numpy.array(["setosa", "versicolor", "virginica"])[sets["iris"][1]])
    seed = dict(random_state=0)
    models = [
        ("random_forest_binary", RandomForestClassifier(20, max_depth=6, **seed), "cancer"),
        ("random_forest_multi", RandomForestClassifier(20, max_depth=8, **seed), "wine"),
        ("random_forest_regressor", RandomForestRegressor(20, max_depth=8, **seed), "diabetes"),
        ("extra_trees_regressor", ExtraTreesRegressor(10, max_depth=8, **seed), "diabetes"),
        ("decision_tree", DecisionTreeClassifier(max_depth=5, **seed), "iris"),
        ("gradient_boosting_binary", GradientBoostingClassifier(n_estimators=20, **seed), "cancer"),
        ("gradient_boosting_multi", GradientBoostingClassifier(n_estimators=10, **seed), "iris"),
        ("gradient_boosting_regressor", GradientBoostingRegressor(n_estimators=30, **seed), "diabetes"),
        ("ada_boost", AdaBoostClassifier(n_estimators=10, **seed), "iris"),
        ("isolation_forest", IsolationForest(n_estimators=20, **seed), "iris"),
        ("svc_rbf", SVC(), "iris"),
        ("svc_poly_binary", make_pipeline(StandardScaler(), SVC(kernel="poly")), "cancer"),
        ("svc_sigmoid", make_pipeline(StandardScaler(), SVC(kernel="sigmoid")), "wine"),
        ("nu_svc", NuSVC(), "iris"),
        ("svr", make_pipeline(StandardScaler(), SVR()), "diabetes"),
        ("one_class_svm", OneClassSVM(), "iris"),
        ("knn_classifier", KNeighborsClassifier(5), "iris"),
        ("knn_regressor", KNeighborsRegressor(5, weights="distance"), "diabetes"),
        ("logistic_binary", make_pipeline(StandardScaler(), LogisticRegression()), "cancer"),
        ("logistic_multi", make_pipeline(MinMaxScaler(), LogisticRegression()), "wine"),
        ("lda", LinearDiscriminantAnalysis(), "iris"),
        ("linear_regression", LinearRegression(), "diabetes"),
        ("ridge_polynomial", make_pipeline(PolynomialFeatures(2), RobustScaler(), Ridge()), "diabetes"),
        ("gaussian_nb", GaussianNB(), "iris"),
        ("bernoulli_nb", make_pipeline(Binarizer(threshold=2.0), BernoulliNB()), "iris"),
        ("mlp", make_pipeline(StandardScaler(), MLPClassifier((8, 8), max_iter=300, **seed)), "iris"),
        ("pca_normalizer", make_pipeline(PCA(2), Normalizer(), LogisticRegression()), "iris"),
        ("k_means", KMeans(3, n_init=2, **seed), "iris"),
        ("imputed", make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()), "iris"),
        ("bins", make_pipeline(KBinsDiscretizer(3, encode="onehot-dense"), LogisticRegression()), "iris"),
    ]
    for name, model, data in models:
        x, y = sets[data]
        yield converted(f"sklearn_{name}", model.fit(x, y), x)
        if name in ("random_forest_multi", "svc_rbf", "logistic_binary"):
            yield converted(f"sklearn_{name}_zipmap", model, x, zipmap=True)
    yield converted("sklearn_names", RandomForestClassifier(10, max_depth=4, **seed).fit(*named), named[0])
    yield converted("sklearn_names_zipmap", LogisticRegression(max_iter=500).fit(*named), named[0], zipmap=True)

    random = numpy.random.default_rng(0)
    colours, sizes = ["red", "green", "blue"], ["s", "m", "l"]
    table = [[colours[random.integers(3)], sizes[random.integers(3)]] for _ in range(60)]
    texts = numpy.array(table, dtype=object)
    y = numpy.array([(a == "red") ^ (b == "l") for a, b in table]).astype(int)
    for name, encoder in [("one_hot", OneHotEncoder(handle_unknown="ignore")), ("ordinal", OrdinalEncoder())]:
        yield converted(f"sklearn_texts_{name}", make_pipeline(encoder, LogisticRegression()).fit(texts, y), texts)


def converted(name, model, x, zipmap=False):
    import numpy
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    kind = StringTensorType if x.dtype == object else FloatTensorType
    options = {}
    if hasattr(model, "predict_proba") or hasattr(model, "decision_function"):
        last = model.steps[-1][1] if hasattr(model, "steps") else model
        if hasattr(last, "classes_"):
            options = {id(last): {"zipmap": zipmap}}
    onx = to_onnx(model, initial_types=[("x", kind([None, x.shape[1]]))], options=options,
                  target_opset={"": 17, "ai.onnx.ml": 3})
    x = x if x.dtype == object else x.astype("float32")
    return name, onx, [[x[:25]], [x[40:41]]], {"rtol": 1e-3, "atol": 1e-4}


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUTF8", "1")
    generate.main()

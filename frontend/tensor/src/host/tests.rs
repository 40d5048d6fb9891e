//! Host functions against values of ONNX's operator documentation.

use super::*;
use crate::Numbers;

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(shape, values).unwrap()
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::from_slice(&[values.len()], values).unwrap()
}

fn one(function: &str, parameters: &[i64], operands: &[Tensor]) -> Tensor {
    call(function, parameters, &[], operands).unwrap().remove(0)
}

#[test]
fn nonzero_gives_coordinates() {
    let x = floats(&[2, 2], &[1.0, 0.0, f32::NAN, 3.0]);
    assert_eq!(one("nonzero", &[], &[x]), Tensor::from_slice(&[2, 3], &[0i64, 1, 1, 0, 0, 1]).unwrap());
    assert_eq!(one("nonzero", &[], &[floats(&[0, 3], &[])]).shape(), [2, 0]);
    assert_eq!(one("nonzero", &[], &[Tensor::scalar(1f32)]).shape(), [0, 1]);
}

#[test]
fn unique_follows_the_onnx_examples() {
    let x = floats(&[6], &[2.0, 1.0, 1.0, 3.0, 4.0, 3.0]);
    let expected = |values: &[f32], first: &[i64], inverse: &[i64], counts: &[i64]| {
        vec![floats(&[values.len()], values), ints(first), ints(inverse), ints(counts)]
    };
    let sorted = call("unique", &[1], &[], std::slice::from_ref(&x)).unwrap();
    assert_eq!(sorted, expected(&[1.0, 2.0, 3.0, 4.0], &[1, 0, 3, 4], &[1, 0, 0, 2, 3, 2], &[2, 1, 2, 1]));
    let by_occurrence = call("unique", &[0], &[], &[x]).unwrap();
    assert_eq!(by_occurrence, expected(&[2.0, 1.0, 3.0, 4.0], &[0, 1, 3, 4], &[0, 1, 1, 2, 3, 2], &[1, 2, 2, 1]));
    let rows = floats(&[3, 3], &[1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 3.0, 4.0]);
    let unique_rows = call("unique", &[1, 0], &[], &[rows]).unwrap();
    assert_eq!(unique_rows[0], floats(&[2, 3], &[1.0, 0.0, 0.0, 2.0, 3.0, 4.0]));
    assert_eq!(unique_rows[1..], [ints(&[0, 2]), ints(&[0, 0, 1]), ints(&[2, 1])]);
}

#[test]
fn non_max_suppression_follows_the_onnx_examples() {
    let boxes = [
        [0.0, 0.0, 1.0, 1.0],
        [0.0, 0.1, 1.0, 1.1],
        [0.0, -0.1, 1.0, 0.9],
        [0.0, 10.0, 1.0, 11.0],
        [0.0, 10.1, 1.0, 11.1],
        [0.0, 100.0, 1.0, 101.0],
    ];
    let boxes = floats(&[1, 6, 4], &boxes.concat());
    let scores = floats(&[1, 1, 6], &[0.9, 0.75, 0.6, 0.95, 0.5, 0.3]);
    let limits = [ints(&[3]), floats(&[1], &[0.5]), floats(&[1], &[0.0])];
    let operands: Vec<Tensor> = [boxes.clone(), scores.clone()].into_iter().chain(limits).collect();
    let found = one("non_max_suppression", &[0], &operands);
    assert_eq!(found, Tensor::from_slice(&[3, 3], &[0i64, 0, 3, 0, 0, 0, 0, 0, 5]).unwrap());
    assert_eq!(one("non_max_suppression", &[0], &operands[..2]).shape(), [0, 3]);
    // Two boxes by centre and size that overlap by a third.
    let centred = floats(&[1, 2, 4], &[1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 2.0, 2.0]);
    let run = |limit: f32| {
        let operands = [centred.clone(), floats(&[1, 1, 2], &[0.1, 0.2]), ints(&[9]), floats(&[1], &[limit])];
        one("non_max_suppression", &[1], &operands).numbers().unwrap().to_i64()
    };
    assert_eq!(run(0.4), [0, 0, 1, 0, 0, 0]);
    assert_eq!(run(0.3), [0, 0, 1]);
    assert!(call("non_max_suppression", &[0], &[], &[scores.clone(), scores]).is_err());
}

#[test]
fn compress_keeps_along_an_axis_or_flat() {
    let x = floats(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let keep = |flags: &[u8]| Tensor::new(DType::Bool, &[flags.len()], flags.to_vec().into()).unwrap();
    assert_eq!(one("compress", &[0], &[x.clone(), keep(&[0, 1, 1])]), floats(&[2, 2], &[3.0, 4.0, 5.0, 6.0]));
    assert_eq!(one("compress", &[1], &[x.clone(), keep(&[0, 1])]), floats(&[3, 1], &[2.0, 4.0, 6.0]));
    assert_eq!(one("compress", &[], &[x.clone(), keep(&[0, 1, 0, 0, 1])]), floats(&[2], &[2.0, 5.0]));
    assert!(call("compress", &[1], &[], &[x, keep(&[0, 0, 1])]).is_err());
}

#[test]
fn ranges_count_in_both_directions() {
    let range = |a: i64, b: i64, c: i64| call("range", &[], &[], &[ints(&[a]), ints(&[b]), ints(&[c])]);
    assert_eq!(range(1, 8, 3).unwrap(), [ints(&[1, 4, 7])]);
    assert_eq!(range(5, 0, -2).unwrap(), [ints(&[5, 3, 1])]);
    assert_eq!(range(0, 5, -1).unwrap(), [ints(&[])]);
    assert!(range(0, 5, 0).is_err());
    assert!(matches!(range(i64::MIN, i64::MAX, 1), Err(HostError::TooLarge { .. })));
    let floats_range = call("range", &[], &[], &[Tensor::scalar(1f32), Tensor::scalar(2f32), Tensor::scalar(0.4f32)]);
    assert_eq!(floats_range.unwrap(), [floats(&[3], &[1.0, 1.4, 1.8])]);
}

#[test]
fn shapes_from_data_follow_onnx() {
    let x = floats(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(one("reshape", &[0], &[x.clone(), ints(&[0, -1])]).shape(), [2, 3]);
    assert_eq!(one("reshape", &[0], &[x.clone(), ints(&[-1])]).shape(), [6]);
    assert_eq!(one("reshape", &[1], &[floats(&[0, 3], &[]), ints(&[3, 0])]).shape(), [3, 0]);
    assert!(call("reshape", &[0], &[], &[x.clone(), ints(&[-1, -1])]).is_err());
    assert!(call("reshape", &[0], &[], &[x.clone(), ints(&[4, -1])]).is_err());
    assert_eq!(one("broadcast", &[], &[x.clone(), ints(&[2, 1, 1])]).shape(), [2, 2, 3]);
    assert!(call("broadcast", &[], &[], &[x.clone(), ints(&[4])]).is_err());
    let tiled = one("tile", &[], &[x.clone(), ints(&[1, 2])]);
    assert_eq!(tiled, floats(&[2, 6], &[0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 4.0, 5.0]));
    assert!(matches!(call("tile", &[], &[], &[x.clone(), ints(&[1, i64::MAX])]), Err(HostError::TooLarge { .. })));
    assert_eq!(one("constant_of_shape", &[], &[ints(&[2, 0]), ints(&[7])]).shape(), [2, 0]);
    assert_eq!(one("constant_of_shape", &[], &[ints(&[2]), ints(&[7])]), ints(&[7, 7]));
    assert!(call("constant_of_shape", &[], &[], &[ints(&[-1]), ints(&[7])]).is_err());
    let parts = call("split", &[1], &[], &[x, ints(&[1, 2])]).unwrap();
    assert_eq!(parts, [floats(&[2, 1], &[0.0, 3.0]), floats(&[2, 2], &[1.0, 2.0, 4.0, 5.0])]);
}

#[test]
fn slices_clamp_and_count_from_the_end() {
    let x = ints(&[0, 1, 2, 3, 4]);
    let slice = |start: i64, end: i64, step: i64| {
        one("slice", &[], &[x.clone(), ints(&[start]), ints(&[end]), ints(&[0]), ints(&[step])])
    };
    assert_eq!(slice(1, 100, 2), ints(&[1, 3]));
    assert_eq!(slice(-2, i64::MAX, 1), ints(&[3, 4]));
    assert_eq!(slice(i64::MAX, i64::MIN, -2), ints(&[4, 2, 0]));
    assert_eq!(slice(3, 1, 1), ints(&[]));
    assert_eq!(slice(-1, 0, -1), ints(&[4, 3, 2, 1]));
    assert!(call("slice", &[], &[], &[x.clone(), ints(&[0, 0]), ints(&[1, 1])]).is_err());
}

#[test]
fn padding_modes_follow_onnx() {
    let x = ints(&[1, 2, 3]);
    let pad = |mode: i64, before: i64, after: i64| one("pad", &[mode], &[x.clone(), ints(&[before, after])]);
    assert_eq!(pad(0, 1, 2), ints(&[0, 1, 2, 3, 0, 0]));
    assert_eq!(pad(1, 2, 1), ints(&[3, 2, 1, 2, 3, 2]));
    assert_eq!(pad(2, 2, 1), ints(&[1, 1, 1, 2, 3, 3]));
    assert_eq!(pad(3, 2, 1), ints(&[2, 3, 1, 2, 3, 1]));
    assert_eq!(pad(0, -1, 1), ints(&[2, 3, 0]));
    assert!(call("pad", &[0], &[], &[x.clone(), ints(&[-4, 0])]).is_err());
    assert!(call("pad", &[7], &[], &[x, ints(&[0, 0])]).is_err());
}

#[test]
fn one_hot_wraps_negative_indices() {
    let operands = [ints(&[0, -1, 5]), ints(&[3]), floats(&[2], &[0.0, 9.0])];
    let expected = [9.0, 0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0];
    assert_eq!(one("one_hot", &[1], &operands), floats(&[3, 3], &expected));
}

#[test]
fn resizing_follows_the_onnx_examples() {
    let x = floats(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let none = || floats(&[0], &[]);
    let run = |parameters: &[i64], scales: &[f32], sizes: &[i64]| {
        let operands = [x.clone(), floats(&[scales.len()], scales), ints(sizes), none()];
        call("resize", parameters, &[-0.75, 0.0], &operands).unwrap().remove(0)
    };
    // resize_upsample_scales_nearest
    let nearest = run(&[0, 4, 2, 0, 0, 0], &[1.0, 1.0, 2.0, 3.0], &[]);
    assert_eq!(nearest.shape(), [1, 1, 4, 6]);
    assert_eq!(nearest.as_slice::<f32>().unwrap()[..6], [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    // resize_upsample_scales_linear, first row
    let linear = run(&[1, 0, 0, 0, 0, 0], &[1.0, 1.0, 2.0, 2.0], &[]);
    assert_eq!(linear.as_slice::<f32>().unwrap()[..8], [1.0, 1.25, 1.75, 2.0, 1.5, 1.75, 2.25, 2.5]);
    // resize_upsample_scales_linear_align_corners
    let corners = run(&[1, 3, 0, 0, 0, 0], &[], &[1, 1, 4, 4]);
    let expected = [1.0, 4.0 / 3.0, 5.0 / 3.0, 2.0];
    let found = corners.numbers().unwrap().to_f64();
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    // A row of constants stays constant whatever the filter.
    for parameters in [[2, 0, 0, 0, 0, 0], [2, 0, 0, 1, 0, 0], [1, 0, 0, 0, 1, 0], [2, 0, 0, 0, 1, 0]] {
        let operands = [floats(&[5], &[3.0; 5]), floats(&[1], &[0.6]), ints(&[]), none()];
        let found = call("resize", &parameters, &[-0.75, 0.0], &operands).unwrap().remove(0);
        assert_eq!(found, floats(&[3], &[3.0; 3]));
    }
}

#[test]
fn hostile_calls_are_errors() {
    assert!(matches!(call("magic", &[], &[], &[]), Err(HostError::Unknown(_))));
    for row in FUNCTIONS {
        let too_few = call(row.name, &[], &[], &[]);
        assert!(row.operands.0 == 0 || matches!(too_few, Err(HostError::Arity { .. })), "{}", row.name);
        let strings = Tensor::from_strings(&[1], vec!["x".into()]).unwrap();
        let empty = Tensor::from_numbers(DType::I4, &[0, 3], &Numbers::Int(vec![])).unwrap();
        for tensor in [strings, empty, Tensor::scalar(i64::MIN), ints(&[i64::MAX, i64::MIN])] {
            for parameters in [&[][..], &[-1; 8], &[i64::MAX; 8], &[0; 8]] {
                // No panic; some of these calls are even meaningful.
                let _ = call_within(row.name, parameters, &[], &vec![tensor.clone(); row.operands.1.min(3)], 1000);
            }
        }
    }
}

fn sequence(values: &[Tensor]) -> Tensor {
    one("sequence", &[], values)
}

#[test]
fn sequences_are_read_and_changed() {
    let (a, b, c) = (floats(&[2], &[1.0, 2.0]), floats(&[1], &[3.0]), floats(&[0], &[]));
    let ab = sequence(&[a.clone(), b.clone()]);
    assert_eq!((ab.dtype(), ab.shape()), (DType::Value, &[2usize][..]));
    let place = |at: i64| Tensor::scalar(at);
    assert_eq!(one("sequence_at", &[], &[ab.clone(), place(-1)]), b);
    assert_eq!(
        one("sequence_insert", &[], &[ab.clone(), c.clone(), place(0)]),
        sequence(&[c.clone(), a.clone(), b.clone()])
    );
    assert_eq!(one("sequence_insert", &[], &[ab.clone(), c.clone()]), sequence(&[a.clone(), b.clone(), c]));
    assert_eq!(one("sequence_erase", &[], std::slice::from_ref(&ab)), sequence(std::slice::from_ref(&a)));
    assert_eq!(one("sequence_concat", &[-1, 0], std::slice::from_ref(&ab)), floats(&[3], &[1.0, 2.0, 3.0]));
    assert_eq!(one("sequence_concat", &[0, 1], &[sequence(&[a.clone(), a.clone()])]).shape(), [2, 2]);
    let x = floats(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let rows = one("sequence_split", &[0, 0], std::slice::from_ref(&x));
    assert_eq!(rows.values().unwrap()[2], floats(&[2], &[5.0, 6.0]));
    let pairs = one("sequence_split", &[0, 1], &[x.clone(), place(2)]);
    assert_eq!(pairs.values().unwrap().iter().map(Tensor::count).collect::<Vec<_>>(), [4, 2]);
    for (function, ints, operands) in [
        ("sequence_at", vec![], vec![ab.clone(), place(2)]),
        ("sequence_at", vec![], vec![sequence(&[])]),
        ("sequence_at", vec![], vec![a.clone()]),
        ("sequence_insert", vec![], vec![ab.clone(), Tensor::scalar(1i64)]),
        ("sequence_insert", vec![], vec![ab.clone(), a.clone(), place(3)]),
        ("sequence_erase", vec![], vec![sequence(&[])]),
        ("sequence_concat", vec![1, 0], vec![ab.clone()]),
        ("sequence_concat", vec![0, 1], vec![ab.clone()]),
        ("sequence_split", vec![0, 1], vec![x.clone(), place(0)]),
        ("sequence_split", vec![0, 1], vec![x, Tensor::from_slice(&[2], &[i64::MAX, 2]).unwrap()]),
    ] {
        assert!(call(function, &ints, &[], &operands).is_err(), "{function} {operands:?}");
    }
}

#[test]
fn maps_hold_keys_and_values() {
    let map = one("map", &[], &[ints(&[3, 0]), floats(&[2], &[1.5, 2.5])]);
    assert_eq!(call("map_parts", &[], &[], std::slice::from_ref(&map)).unwrap()[0], ints(&[3, 0]));
    assert_eq!(one("map_row", &[-1], std::slice::from_ref(&map)), floats(&[1, 2], &[2.5, 1.5]));
    assert_eq!(one("map_row", &[5], std::slice::from_ref(&map)), floats(&[1, 5], &[2.5, 0.0, 0.0, 1.5, 0.0]));
    let maps = one("zip_map", &[], &[floats(&[2, 1], &[7.0, 8.0]), ints(&[4])]);
    assert_eq!(maps.values().unwrap()[1], one("map", &[], &[ints(&[4]), floats(&[1], &[8.0])]));
    assert!(call("map", &[], &[], &[ints(&[3]), floats(&[2], &[1.0, 2.0])]).is_err());
    assert!(call("map_parts", &[], &[], &[sequence(&[ints(&[1])])]).is_err());
    assert!(call("map_parts", &[], &[], &[ints(&[1])]).is_err());
}

#[test]
fn seeded_numbers_are_those_of_numpy() {
    // numpy.random.RandomState(0): rand(3), and of another one randn(3).
    let near = |found: Tensor, expected: &[f64]| {
        let found = found.numbers().unwrap().to_f64();
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-8), "{found:?}");
    };
    near(one("random", &[0, 0], &[ints(&[3])]), &[0.5488135, 0.71518937, 0.60276338]);
    near(one("random", &[0, 1], &[ints(&[3])]), &[1.76405235, 0.40015721, 0.97873798]);
}

#[test]
fn what_is_no_image_gives_no_pixels() {
    for bytes in
        [&[][..], b"\xff\xd8\xff", b"\xff\xd8\xff\xda\0\x02", b"P6 99999999 99999999 255\n", b"\x89PNG\r\n\x1a\n"]
    {
        let encoded = Tensor::from_slice(&[bytes.len()], bytes).unwrap();
        assert_eq!(one("image", &[0], &[encoded]).shape(), [0, 0, 3]);
    }
    let gray = Tensor::from_slice(&[12], b"P5 2 1 255\n\x07").unwrap();
    assert_eq!(one("image", &[2], &[gray]).count(), 0);
    let gray = Tensor::from_slice(&[13], b"P5 2 1 255\n\x07\x08").unwrap();
    assert_eq!(one("image", &[2], &[gray]), Tensor::from_slice(&[1, 2, 1], &[7u8, 8]).unwrap());
}

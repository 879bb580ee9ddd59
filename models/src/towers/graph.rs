//! Builds an ONNX graph: the operators that the towers use, as methods on values.
//!
//! Knows nothing of CLIP. Shapes are the caller's business: ONNX Runtime checks them when it opens
//! the model.

use std::collections::HashMap;

use prost::Message as _;

use super::onnx::{
    Attribute, Constant, Dimension, GraphProto, Model, Node, OperatorSet, Shape, TensorType,
    TypeProto, ValueInfo,
};
use super::tensor::little_endian;
use super::{NORM_EPSILON, half};
use crate::{Error, Result};

/// The operator set: the first with `LayerNormalization`.
const OPSET: i64 = 17;
/// The file format that belongs to that operator set.
const IR_VERSION: i64 = 8;
/// What a protobuf message can hold, with or without external data.
const LARGEST_MODEL_BYTES: usize = i32::MAX as usize;

/// Element types of ONNX that occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    I64 = 7,
    F16 = 10,
}

/// A size of an input or output.
#[derive(Clone, Copy, Debug)]
pub(super) enum Size {
    Fixed(usize),
    /// Known only at run time.
    Named(&'static str),
}

/// A square convolution, all in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    pub(super) side: usize,
    pub(super) stride: usize,
    /// Zeros around the picture.
    pub(super) padding: usize,
}

/// A tensor that a node computes, or a constant or an input.
#[derive(Clone, Debug)]
pub(super) struct Value(String);

/// A graph under construction.
pub(super) struct Graph {
    proto: GraphProto,
    /// Prefix of the names of what is added, for profiles and error messages of the runtime.
    scope: String,
    /// Constants of whole numbers, which are mostly shapes and repeat.
    shared: HashMap<Vec<i64>, Value>,
    /// Vectors of ones, the scales of normalisations whose own is folded away.
    ones: HashMap<usize, Value>,
    /// Numbers that repeat, by their bits.
    scalars: HashMap<u32, Value>,
    /// The first constant that half precision cannot hold.
    too_large: Option<String>,
}

impl Graph {
    pub(super) fn new(name: &str) -> Self {
        Self {
            proto: GraphProto { name: name.into(), ..GraphProto::default() },
            scope: name.into(),
            shared: HashMap::new(),
            ones: HashMap::new(),
            scalars: HashMap::new(),
            too_large: None,
        }
    }

    /// Names what follows after this part of the tower.
    pub(super) fn enter(&mut self, scope: impl Into<String>) {
        self.scope = scope.into();
    }

    pub(super) fn input(&mut self, name: &str, element: Element, sizes: &[Size]) -> Value {
        self.proto.input.push(value_info(name, element, sizes));
        Value(name.into())
    }

    /// Declares `value` the output `name`.
    pub(super) fn output(&mut self, name: &str, value: &Value, sizes: &[Size]) {
        self.proto.node.push(Node {
            input: vec![value.0.clone()],
            output: vec![name.into()],
            name: format!("{name}/Identity"),
            op_type: "Identity".into(),
            ..Node::default()
        });
        self.proto.output.push(value_info(name, Element::F32, sizes));
    }

    /// A constant of 32-bit numbers.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        self.constant(name, Element::F32, shape, little_endian(values))
    }

    /// A constant of 16-bit numbers. One that they cannot hold is an error of [`Graph::finish`].
    pub(super) fn halves(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        let is_lost = |value: &f32| !half::to_float(half::from_float(*value)).is_finite();
        let lost = values.iter().find(|value| is_lost(value));
        let bytes = values.iter().flat_map(|value| half::from_float(*value).to_le_bytes());
        let value = self.constant(name, Element::F16, shape, bytes.collect());
        if let (Some(lost), None) = (lost, &self.too_large) {
            self.too_large = Some(format!("{lost} in {}", value.0));
        }
        value
    }

    /// A constant of 8-bit numbers.
    pub(super) fn bytes(&mut self, name: &str, shape: &[usize], values: &[i8]) -> Value {
        let bytes = values.iter().map(|value| value.cast_unsigned()).collect();
        self.constant(name, Element::I8, shape, bytes)
    }

    /// A constant of one unsigned 8-bit number, without axes.
    pub(super) fn byte(&mut self, name: &str, value: u8) -> Value {
        self.constant(name, Element::U8, &[], vec![value])
    }

    /// A constant of one 32-bit number, without axes; equal ones are one constant.
    pub(super) fn scalar(&mut self, value: f32) -> Value {
        if let Some(value) = self.scalars.get(&value.to_bits()) {
            return value.clone();
        }
        let constant = self.floats("scalar", &[], &[value]);
        self.scalars.insert(value.to_bits(), constant.clone());
        constant
    }

    /// A vector of whole numbers; equal ones are one constant.
    pub(super) fn ints(&mut self, values: &[i64]) -> Value {
        if let Some(value) = self.shared.get(values) {
            return value.clone();
        }
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let value = self.constant("ints", Element::I64, &[values.len()], bytes);
        self.shared.insert(values.to_vec(), value.clone());
        value
    }

    fn constant(&mut self, name: &str, element: Element, shape: &[usize], raw: Vec<u8>) -> Value {
        let name = format!("{}/{name}#{}", self.scope, self.proto.initializer.len());
        self.proto.initializer.push(Constant {
            dims: shape.iter().map(|&size| size as i64).collect(),
            data_type: Some(element as i32),
            name: name.clone(),
            raw_data: raw,
        });
        Value(name)
    }

    fn nodes<const N: usize>(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attribute: Vec<Attribute>,
    ) -> [Value; N] {
        let name = format!("{}/{operator}#{}", self.scope, self.proto.node.len());
        let outputs: [Value; N] = std::array::from_fn(|index| match index {
            0 => Value(name.clone()),
            _ => Value(format!("{name}.{index}")),
        });
        self.proto.node.push(Node {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: outputs.iter().map(|value| value.0.clone()).collect(),
            name,
            op_type: operator.into(),
            attribute,
            domain: String::new(),
        });
        outputs
    }

    fn node(&mut self, operator: &str, inputs: &[&Value], attributes: Vec<Attribute>) -> Value {
        let [value] = self.nodes(operator, inputs, attributes);
        value
    }

    pub(super) fn matmul(&mut self, a: &Value, b: &Value) -> Value {
        self.node("MatMul", &[a, b], vec![])
    }

    pub(super) fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.node("Add", &[a, b], vec![])
    }

    pub(super) fn mul(&mut self, a: &Value, b: &Value) -> Value {
        self.node("Mul", &[a, b], vec![])
    }

    pub(super) fn div(&mut self, a: &Value, b: &Value) -> Value {
        self.node("Div", &[a, b], vec![])
    }

    /// The larger of each pair.
    pub(super) fn max(&mut self, a: &Value, b: &Value) -> Value {
        self.node("Max", &[a, b], vec![])
    }

    pub(super) fn abs(&mut self, x: &Value) -> Value {
        self.node("Abs", &[x], vec![])
    }

    /// The largest over the last axis, which stays with a size of one.
    pub(super) fn largest_of_last(&mut self, x: &Value) -> Value {
        let attributes = vec![Attribute::ints("axes", &[-1]), Attribute::int("keepdims", 1)];
        self.node("ReduceMax", &[x], attributes)
    }

    pub(super) fn cast(&mut self, x: &Value, to: Element) -> Value {
        self.node("Cast", &[x], vec![Attribute::int("to", to as i64)])
    }

    /// The nearest whole number to `x / step`, the even one of two, plus `zero`, within what the type of
    /// `zero` holds.
    pub(super) fn quantise(&mut self, x: &Value, step: &Value, zero: &Value) -> Value {
        self.node("QuantizeLinear", &[x, step, zero], vec![])
    }

    /// The matrix product of `a - zero` and `b`, all of 8 bits, in 32 bits.
    pub(super) fn matmul_integer(&mut self, a: &Value, b: &Value, zero: &Value) -> Value {
        self.node("MatMulInteger", &[a, b, zero], vec![])
    }

    pub(super) fn relu(&mut self, x: &Value) -> Value {
        self.node("Relu", &[x], vec![])
    }

    pub(super) fn sigmoid(&mut self, x: &Value) -> Value {
        self.node("Sigmoid", &[x], vec![])
    }

    /// Over the last axis.
    pub(super) fn softmax(&mut self, x: &Value) -> Value {
        self.node("Softmax", &[x], vec![Attribute::int("axis", -1)])
    }

    /// Zero mean and unit variance over the last axis, then scale and shift.
    pub(super) fn layer_norm(&mut self, x: &Value, scale: &Value, shift: &Value) -> Value {
        self.node("LayerNormalization", &[x, scale, shift], norm_attributes())
    }

    /// Zero mean and unit variance over the last axis, of this many values.
    pub(super) fn normalise(&mut self, x: &Value, width: usize) -> Value {
        let ones = match self.ones.get(&width) {
            Some(ones) => ones.clone(),
            None => {
                let ones = self.floats("ones", &[width], &vec![1.0; width]);
                self.ones.insert(width, ones.clone());
                ones
            }
        };
        self.node("LayerNormalization", &[x, &ones], norm_attributes())
    }

    /// Divides by the Euclidean length over the last axis.
    pub(super) fn unit_length(&mut self, x: &Value) -> Value {
        let attributes = vec![Attribute::ints("axes", &[-1]), Attribute::int("keepdims", 1)];
        let length = self.node("ReduceL2", &[x], attributes);
        self.div(x, &length)
    }

    /// Convolution of [N,C,H,W].
    pub(super) fn convolve(
        &mut self,
        x: &Value,
        weight: &Value,
        bias: Option<&Value>,
        Kernel { side, stride, padding }: Kernel,
    ) -> Value {
        let ints = |name: &str, value: usize, count| {
            Attribute::ints(name, &vec![i64::try_from(value).unwrap_or(i64::MAX); count])
        };
        let attributes = vec![
            ints("kernel_shape", side, 2),
            ints("strides", stride, 2),
            // Before and after each of both axes.
            ints("pads", padding, 4),
        ];
        let inputs: Vec<&Value> = [x, weight].into_iter().chain(bias).collect();
        self.node("Conv", &inputs, attributes)
    }

    /// A 0 in `sizes` keeps the size at its place, a -1 is computed.
    pub(super) fn reshape(&mut self, x: &Value, sizes: &[i64]) -> Value {
        let sizes = self.ints(sizes);
        self.node("Reshape", &[x, &sizes], vec![])
    }

    pub(super) fn transpose(&mut self, x: &Value, axes: &[i64]) -> Value {
        self.node("Transpose", &[x], vec![Attribute::ints("perm", axes)])
    }

    pub(super) fn concat(&mut self, parts: &[&Value], axis: i64) -> Value {
        self.node("Concat", parts, vec![Attribute::int("axis", axis)])
    }

    /// Cuts the last axis into parts of these sizes.
    pub(super) fn split<const N: usize>(&mut self, x: &Value, sizes: [i64; N]) -> [Value; N] {
        let sizes = self.ints(&sizes);
        self.nodes("Split", &[x, &sizes], vec![Attribute::int("axis", -1)])
    }

    /// The part from `start` to before `end` (vectors of one number) along `axis`.
    pub(super) fn slice(&mut self, x: &Value, start: &Value, end: &Value, axis: i64) -> Value {
        let axes = self.ints(&[axis]);
        self.node("Slice", &[x, start, end, &axes], vec![])
    }

    /// `slice` with constants.
    pub(super) fn slice_at(&mut self, x: &Value, start: i64, end: i64, axis: i64) -> Value {
        let (start, end) = (self.ints(&[start]), self.ints(&[end]));
        self.slice(x, &start, &end, axis)
    }

    /// Rows of `table` by index.
    pub(super) fn rows(&mut self, table: &Value, indices: &Value) -> Value {
        self.node("Gather", &[table, indices], vec![Attribute::int("axis", 0)])
    }

    /// The entry `index` (a vector of one number) along axis 1, which goes away: [N,T,D] to [N,D].
    pub(super) fn entry(&mut self, x: &Value, index: i64, width: usize) -> Value {
        let cut = self.slice_at(x, index, index + 1, 1);
        self.reshape(&cut, &[-1, width as i64])
    }

    /// From [N,T,D] and indices [N] the row that each picture or text asks for: [N,D].
    pub(super) fn row_of_each(&mut self, x: &Value, indices: &Value) -> Value {
        let indices = self.reshape(indices, &[-1, 1]);
        self.node("GatherND", &[x, &indices], vec![Attribute::int("batch_dims", 1)])
    }

    /// Where the largest of each row of whole numbers [N,L] is: [N].
    ///
    /// Through floats, which hold every token id exactly: `ArgMax` of i64 is missing in some
    /// runtimes.
    pub(super) fn largest(&mut self, ids: &Value) -> Value {
        let floats = self.cast(ids, Element::F32);
        let attributes = vec![Attribute::int("axis", 1), Attribute::int("keepdims", 0)];
        self.node("ArgMax", &[&floats], attributes)
    }

    /// The size of an axis, a vector of one number.
    pub(super) fn size(&mut self, x: &Value, axis: i64) -> Value {
        let shape = self.node("Shape", &[x], vec![]);
        self.slice_at(&shape, axis, axis + 1, 0)
    }

    /// Repeats a constant of shape [1,…] for the whole batch; `shape` is `[N,1,…]`.
    pub(super) fn expand(&mut self, x: &Value, shape: &Value) -> Value {
        self.node("Expand", &[x, shape], vec![])
    }

    /// The bytes of the model file.
    ///
    /// # Errors
    /// [`Error::Invalid`] where they would exceed what protobuf can hold, [`Error::Mismatch`] where a
    /// constant exceeds what half precision can.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        let name = self.proto.name.clone();
        if let Some(constant) = self.too_large {
            return Err(Error::mismatch(
                format!("the {name} tower"),
                format!("{constant} is more than f16 holds, 65504; export it as f32"),
            ));
        }
        let model = Model {
            ir_version: Some(IR_VERSION),
            producer_name: "spotter".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(self.proto),
            opset_import: vec![OperatorSet { domain: String::new(), version: Some(OPSET) }],
        };
        check_size(&name, model.encoded_len())?;
        Ok(model.encode_to_vec())
    }
}

fn check_size(name: &str, bytes: usize) -> Result<()> {
    if bytes <= LARGEST_MODEL_BYTES {
        return Ok(());
    }
    Err(Error::invalid(
        format!("the {name} tower"),
        format!(
            "{bytes} bytes do not fit into an ONNX file, which holds at most \
             {LARGEST_MODEL_BYTES}; use a smaller model"
        ),
    ))
}

fn norm_attributes() -> Vec<Attribute> {
    vec![Attribute::int("axis", -1), Attribute::float("epsilon", NORM_EPSILON)]
}

fn value_info(name: &str, element: Element, sizes: &[Size]) -> ValueInfo {
    let dim = sizes
        .iter()
        .map(|size| match *size {
            Size::Fixed(value) => Dimension { value: Some(value as i64), name: None },
            Size::Named(name) => Dimension { value: None, name: Some(name.into()) },
        })
        .collect();
    let tensor = TensorType { element: Some(element as i32), shape: Some(Shape { dim }) };
    ValueInfo { name: name.into(), kind: Some(TypeProto { tensor: Some(tensor) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_says_what_it_is() {
        let mut graph = Graph::new("vision");
        let x = graph.input("x", Element::F32, &[Size::Named("N"), Size::Fixed(2)]);
        let y = graph.normalise(&x, 2);
        let z = graph.reshape(&y, &[-1]);
        graph.output("z", &z, &[Size::Named("M")]);
        let model = Model::decode(&*graph.finish().unwrap()).unwrap();
        assert_eq!((model.ir_version, &*model.producer_name), (Some(8), "spotter"));
        assert_eq!(model.opset_import[0].version, Some(17));
        let graph = model.graph.unwrap();
        let operators: Vec<_> = graph.node.iter().map(|node| &*node.op_type).collect();
        assert_eq!(operators, ["LayerNormalization", "Reshape", "Identity"]);
        assert_eq!(graph.initializer[0].raw_data, [0, 0, 0x80, 0x3f, 0, 0, 0x80, 0x3f]);
        assert_eq!(graph.initializer[1].raw_data, [0xff; 8]);
    }

    #[test]
    fn a_model_above_two_gigabytes_is_refused() {
        assert!(check_size("text", i32::MAX as usize).is_ok());
        let message = check_size("text", i32::MAX as usize + 1).unwrap_err().to_string();
        assert!(message.starts_with("the text tower: 2147483648 bytes"), "{message}");
    }
}

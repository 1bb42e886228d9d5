//! One form of a graph: what is quantized and run, whatever file it came from.

use super::{ActivationShape, Graph, GraphError, Layer, Op, Padding, Tensor, fold};
use fold::Item;

/// Convolutions of VGG's configurations A, B, D and E, which have five poolings.
const NAMES: [(usize, &str); 4] = [(8, "vgg11"), (10, "vgg13"), (13, "vgg16"), (16, "vgg19")];

/// See [`Graph::canonical`].
pub(super) fn canonical(graph: &Graph) -> Result<Graph, GraphError> {
    let mut items: Vec<Item> = (graph.layers().iter().enumerate())
        .map(|(layer_idx, layer)| Item { layer: layer.clone(), input: graph.input_shape(layer_idx) })
        .filter(|item| !does_nothing(item))
        .collect();
    items.iter_mut().for_each(one_spelling);
    relu_before_pool(&mut items);
    fold::fold(&mut items)?;
    // A factor that is gone may have been between a pool and its ReLU.
    relu_before_pool(&mut items);
    drop_repeated_relu(&mut items);
    let mut layers: Vec<Layer> = items.into_iter().map(|item| item.layer).collect();
    for layer in &mut layers {
        if let Op::Conv { weights, bias } | Op::Dense { weights, bias } = &mut layer.op {
            let outputs = weights.shape().last().copied().unwrap_or(0);
            bias.get_or_insert_with(|| Tensor::zeros(outputs));
        }
    }
    let name = name_layers(&mut layers);
    Graph::new(name, graph.input(), layers)
}

fn does_nothing(item: &Item) -> bool {
    matches!(
        (&item.layer.op, item.input),
        (Op::Dropout { .. }, _) | (Op::Flatten, ActivationShape::Vector(_))
    )
}

/// A pooling that can be said in two ways, said in one.
fn one_spelling(item: &mut Item) {
    let ActivationShape::Map(map) = item.input else { return };
    match &mut item.layer.op {
        op @ Op::GlobalAvgPool if map.height == 1 && map.width == 1 => *op = Op::Flatten,
        Op::MaxPool { stride: 2, padding } if map.height % 2 == 0 && map.width % 2 == 0 => {
            *padding = Padding::Valid;
        }
        _ => {}
    }
}

/// The larger of two values is clamped as each of them is: the ReLU goes to the layer that it can be fused with.
fn relu_before_pool(items: &mut [Item]) {
    for i in 1..items.len() {
        let mut at = i;
        while at > 0
            && matches!(items[at].layer.op, Op::Relu)
            && matches!(items[at - 1].layer.op, Op::MaxPool { .. })
        {
            let input = items[at - 1].input;
            items.swap(at - 1, at);
            (items[at - 1].input, items[at].input) = (input, input);
            at -= 1;
        }
    }
}

/// Drops every ReLU whose input cannot be negative.
fn drop_repeated_relu(items: &mut Vec<Item>) {
    let mut negative = true;
    items.retain(|item| {
        let needed = negative || !matches!(item.layer.op, Op::Relu);
        negative = match item.layer.op {
            Op::Relu => false,
            Op::MaxPool { .. } | Op::GlobalAvgPool | Op::Flatten => negative,
            _ => true,
        };
        needed
    });
}

/// Keras' names for VGG, by position; the network's own by its structure.
fn name_layers(layers: &mut [Layer]) -> &'static str {
    let n_dense = layers.iter().filter(|l| matches!(l.op, Op::Dense { .. })).count();
    let (mut block, mut conv, mut dense) = (1, 0, 0);
    let (mut n_convs, mut n_pools) = (0, 0);
    let mut before = "input".to_string();
    for layer in layers {
        layer.fused = matches!(layer.op, Op::Relu | Op::Softmax);
        layer.name = match layer.op {
            Op::Conv { .. } => {
                (conv, n_convs) = (conv + 1, n_convs + 1);
                format!("block{block}_conv{conv}")
            }
            Op::MaxPool { .. } => {
                (block, conv, n_pools) = (block + 1, 0, n_pools + 1);
                format!("block{}_pool", block - 1)
            }
            Op::Dense { .. } => {
                dense += 1;
                dense_name(dense, n_dense)
            }
            Op::GlobalAvgPool => "global_average_pooling2d".to_string(),
            Op::Flatten => "flatten".to_string(),
            Op::Relu => format!("{before}_relu"),
            Op::Softmax => format!("{before}_softmax"),
            Op::Affine { .. } | Op::BatchNorm { .. } => format!("{before}_affine"),
            Op::Dropout { .. } => format!("{before}_dropout"),
        };
        before.clone_from(&layer.name);
    }
    let known = NAMES.iter().find(|(convs, _)| n_pools == 5 && n_convs == *convs);
    known.map_or("vgg", |(_, name)| name)
}

/// Three dense layers or more are VGG's own head, fewer that of `vggnet`. `number` is from 1.
fn dense_name(number: usize, of: usize) -> String {
    match (number, of) {
        (number, 3..) if number == of => "predictions".to_string(),
        (number, 3..) => format!("fc{number}"),
        (1, _) => "dense".to_string(),
        (number, _) => format!("dense_{}", number - 1),
    }
}

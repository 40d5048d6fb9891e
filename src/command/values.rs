//! Input values: from files, or drawn at random for unknown ones.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use tarsia::{Bindings, DType, Dim, Error, Limits, Numbers, Symbol, Tensor, tensors, tile::Port, tile::Program};

/// `FILE` or `NAME=FILE`.
#[derive(Clone, Debug)]
pub struct InputFile {
    name: Option<String>,
    path: PathBuf,
}

impl FromStr for InputFile {
    type Err = String;

    fn from_str(text: &str) -> Result<InputFile, String> {
        Ok(match text.split_once('=') {
            Some((name, path)) if !PathBuf::from(text).exists() => {
                InputFile { name: Some(name.to_owned()), path: path.into() }
            }
            _ => InputFile { name: None, path: text.into() },
        })
    }
}

/// `SYMBOL=SIZE`.
#[derive(Clone, Debug)]
pub struct SizeArgument {
    pub(super) symbol: String,
    pub(super) size: i64,
}

impl FromStr for SizeArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<SizeArgument, String> {
        let (symbol, size) = text.split_once('=').ok_or("expected SYMBOL=SIZE")?;
        let size = size.parse::<u32>().map_err(|e| format!("`{size}` is no size: {e}"))?;
        Ok(SizeArgument { symbol: symbol.to_owned(), size: size.into() })
    }
}

/// Sizes by their symbols.
pub fn by_symbol(sizes: &[SizeArgument]) -> BTreeMap<String, i64> {
    sizes.iter().map(|size| (size.symbol.clone(), size.size)).collect()
}

/// The tensors for all inputs of a program: of the files, else of `known` (one entry per input, or none), else drawn at random,
/// unknown sizes being those of `sizes`, or 1.
///
/// # Errors
/// If a file does not belong to an input, or does not read.
pub fn inputs(
    ports: &[(Port, DType)],
    files: &[InputFile],
    known: Vec<Option<Tensor>>,
    sizes: &[SizeArgument],
    seed: u64,
    limits: &Limits,
) -> Result<Vec<Tensor>, Error> {
    let mut given: BTreeMap<usize, Tensor> = BTreeMap::new();
    for file in files {
        for (stored, tensor) in tensors::read(&file.path, limits)? {
            let at = position(ports, &given, file.name.as_deref(), stored.as_deref(), &file.path)?;
            given.insert(at, tensor);
        }
    }
    for (at, tensor) in known.into_iter().enumerate() {
        if let Some(tensor) = tensor {
            given.entry(at).or_insert(tensor);
        }
    }
    let mut symbols = by_symbol(sizes);
    for (at, tensor) in &given {
        for (dim, &size) in ports[*at].0.shape.iter().zip(tensor.shape()) {
            if let Some(symbol) = dim.as_symbol() {
                symbols.entry(symbol.name().to_owned()).or_insert(size as i64);
            }
        }
    }
    let mut random = Random(seed);
    ports
        .iter()
        .enumerate()
        .map(|(at, (port, dtype))| match given.remove(&at) {
            Some(tensor) => Ok(tensor),
            None => random_tensor(port, *dtype, &symbols, &mut random),
        })
        .collect()
}

/// The values of a program's symbols: as given, else as the inputs' shapes (where known) tell, else 1.
///
/// # Errors
/// If they contradict each other, or there is no such symbol.
pub fn symbols(
    program: &Program,
    shapes: &[Option<Vec<usize>>],
    sizes: &[SizeArgument],
) -> Result<BTreeMap<Symbol, i64>, Error> {
    let all = program.symbols();
    let mut bindings = Bindings::new();
    for SizeArgument { symbol, size } in sizes {
        let known = all.iter().find(|known| known.name() == symbol);
        let names = || all.iter().map(Symbol::name).collect::<Vec<_>>().join(", ");
        let missing = || Error::Usage(format!("there is no size `{symbol}`; there are: {}", names()));
        bindings.set(known.ok_or_else(missing)?.clone(), *size);
    }
    let ports = program.inputs.iter().zip(shapes).filter_map(|(port, shape)| Some((port, shape.as_ref()?)));
    let pairs = ports.flat_map(|(port, shape)| port.shape.iter().zip(shape.iter().map(|&size| size as i64)));
    bindings.learn(pairs).map_err(|e| Error::Usage(e.to_string()))?;
    for symbol in all {
        if bindings.get(&symbol).is_none() {
            bindings.set(symbol, 1);
        }
    }
    Ok(bindings.iter().map(|(symbol, value)| (symbol.clone(), value)).collect())
}

/// Which input a tensor is for: by the name on the command line, by the name in the file, or the first free one.
fn position(
    ports: &[(Port, DType)],
    given: &BTreeMap<usize, Tensor>,
    asked: Option<&str>,
    stored: Option<&str>,
    path: &std::path::Path,
) -> Result<usize, Error> {
    let by_name = |name: &str| ports.iter().position(|(port, _)| port.name == name);
    let names = || ports.iter().map(|(port, _)| port.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(name) = asked {
        return by_name(name)
            .ok_or_else(|| Error::Usage(format!("there is no input `{name}`; the inputs are {}", names())));
    }
    if let Some(at) = stored.and_then(by_name) {
        return Ok(at);
    }
    let free = (0..ports.len()).find(|at| !given.contains_key(at));
    free.ok_or_else(|| Error::Usage(format!("{}: more tensors than inputs ({})", path.display(), names())))
}

/// SplitMix64 (Steele et al. 2014): good enough for made-up inputs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [-1, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Floats in [-1, 1), integers 0 or 1 (indices stay in range), bools true.
fn random_tensor(
    port: &Port,
    dtype: DType,
    symbols: &BTreeMap<String, i64>,
    random: &mut Random,
) -> Result<Tensor, Error> {
    let usage = |reason: String| Error::Usage(format!("input `{}`: {reason}", port.name));
    let size = |dim: &Dim| {
        let value = dim.eval(&|symbol| Some(symbols.get(symbol.name()).copied().unwrap_or(1)));
        value.map_err(|e| usage(e.to_string())).and_then(|v| usize::try_from(v).map_err(|_| usage(format!("size {v}"))))
    };
    let shape = port.shape.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(|| usage("too large".into()))?;
    if !dtype.is_numeric() {
        return Err(usage(format!("it takes {dtype}s, which are not drawn at random; give a file")));
    }
    let numbers = match dtype.is_float() {
        true => Numbers::Float((0..count).map(|_| random.unit()).collect()),
        false if dtype == DType::Bool => Numbers::Uint(vec![1; count]),
        false => Numbers::Int((0..count).map(|_| (random.next() & 1) as i64).collect()),
    };
    Tensor::from_numbers(dtype, &shape, &numbers).map_err(|e| usage(e.to_string()))
}

//! A pickle interpreter that executes nothing.
//!
//! A pickle is a program for a stack machine that may call any Python function. This one knows the opcodes that state
//! dicts consist of and the few functions they name, each of which builds plain data here; any other is an error that
//! names it. Values refer to one another by index, so neither cycles nor deep nesting cost more than their bytes.

use std::collections::HashMap;
use std::ops::Range;

use safetensors::Dtype;

use super::globals::Global;
use super::reader::Reader;

/// Values that any pickle may build, whatever the size of its file.
const MIN_VALUES: usize = 16 << 10;
/// Bytes of the file for each further value: a table that doubles as it grows then stays below twice the file.
const BYTES_PER_VALUE: usize = 32;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// A value on the stack. Numbers in it are indices into [`Objects`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A number that no tensor needs.
    Float,
    /// Where a text stands in the pickle.
    Text(u32, u32),
    Global(Global),
    Tuple(u32, u32),
    List(u32),
    Dict(u32),
    Storage(u32),
    Tensor(u32),
}

/// Numbers of one type, in an entry of the archive.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) dtype: Dtype,
    /// Where the entry's name stands in the pickle.
    pub(super) key: Range<usize>,
    /// How many numbers.
    pub(super) len: usize,
}

/// A view of a storage. Offset and strides count numbers, not bytes.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub(super) storage: usize,
    pub(super) offset: usize,
    pub(super) shape: Box<[usize]>,
    pub(super) strides: Box<[usize]>,
}

/// Everything a pickle builds.
#[derive(Debug, Default)]
pub(super) struct Objects {
    /// The items of all tuples.
    items: Vec<Value>,
    lists: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    pub(super) storages: Vec<Storage>,
    pub(super) tensors: Vec<Tensor>,
}

impl Objects {
    /// The entries of a dictionary, in the order in which they were set.
    pub(super) fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match value {
            Value::Dict(index) => self.dicts.get(index as usize).map(Vec::as_slice),
            _ => None,
        }
    }

    fn tuple(&self, value: Value) -> Option<&[Value]> {
        match value {
            Value::Tuple(start, end) => self.items.get(start as usize..end as usize),
            _ => None,
        }
    }
}

/// Runs `pickle`, which comes from a file of `file_len` bytes, and returns its value and what that refers to.
pub(super) fn run(pickle: &[u8], file_len: usize) -> Result<(Value, Objects), String> {
    if u32::try_from(pickle.len()).is_err() {
        return Err(format!("a pickle of {} bytes is too long", pickle.len()));
    }
    Machine {
        reader: Reader::new(pickle),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        objects: Objects::default(),
        limit: MIN_VALUES + file_len / BYTES_PER_VALUE,
    }
    .run()
}

struct Machine<'a> {
    reader: Reader<'a>,
    stack: Vec<Value>,
    /// Heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    objects: Objects,
    /// Most values in any one place.
    limit: usize,
}

impl Machine<'_> {
    fn run(mut self) -> Result<(Value, Objects), String> {
        loop {
            let at = self.reader.at();
            let opcode = self.reader.byte()?;
            if opcode == b'.' {
                let value = self.pop()?;
                return Ok((value, self.objects));
            }
            self.step(opcode).map_err(|problem| {
                format!("{problem} (pickle opcode {opcode:#04x} at byte {at})")
            })?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            // PROTO, FRAME
            0x80 => self.reader.byte().map(drop),
            0x95 => self.reader.take(8).map(drop),
            // MARK, POP, POP_MARK
            b'(' => {
                self.room(self.marks.len())?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => {
                let start = self.pop_mark()?;
                self.stack.truncate(start);
                Ok(())
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            // BININT, BININT1, BININT2, LONG1, BINFLOAT
            b'J' | b'K' | b'M' | 0x8a | b'G' => {
                let value = self.reader.number(opcode)?;
                self.push(value)
            }
            // The two notations of texts with one and four bytes of length, and the one with eight; bytes likewise.
            b'X' | b'U' | b'T' | 0x8c | 0x8d | b'B' | b'C' | 0x8e => {
                let (start, end) = self.reader.text(opcode)?;
                self.push(Value::Text(start, end))
            }
            // EMPTY_LIST, EMPTY_DICT, EMPTY_TUPLE
            b']' => self.new_list(Vec::new()),
            b'}' => self.new_dict(),
            b')' => self.new_tuple(self.stack.len()),
            // TUPLE1, TUPLE2, TUPLE3, TUPLE
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let start = self.stack.len().checked_sub(count);
                self.new_tuple(start.ok_or_else(underflow)?)
            }
            b't' => {
                let start = self.pop_mark()?;
                self.new_tuple(start)
            }
            // LIST, APPEND, APPENDS
            b'l' => {
                let start = self.pop_mark()?;
                let items = self.stack.split_off(start);
                self.new_list(items)
            }
            b'a' => self.append(self.stack.len().checked_sub(1).ok_or_else(underflow)?),
            b'e' => {
                let start = self.pop_mark()?;
                self.append(start)
            }
            // SETITEM, SETITEMS
            b's' => self.set(self.stack.len().checked_sub(2).ok_or_else(underflow)?),
            b'u' => {
                let start = self.pop_mark()?;
                self.set(start)
            }
            // BINGET, LONG_BINGET
            b'h' | b'j' => {
                let key = self.reader.memo_key(opcode == b'j')?;
                let value = self.memo.get(&key).copied();
                self.push(value.ok_or_else(|| format!("nothing is remembered as {key}"))?)
            }
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' | b'r' => {
                let key = self.reader.memo_key(opcode == b'r')?;
                self.remember(key)
            }
            0x94 => self.remember(self.memo.len() as u32),
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let module = self.reader.line()?;
                let name = self.reader.line()?;
                self.push(Value::Global(Global::named(module, name)?))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let global = Global::named(self.text(module)?, self.text(name)?)?;
                self.push(Value::Global(global))
            }
            // REDUCE: a call
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let value = self.call(function, arguments)?;
                self.push(value)
            }
            // BUILD: attributes of an object. Ordered dictionaries carry `_metadata`, which nothing needs.
            b'b' => {
                self.pop()?;
                match self.stack.last() {
                    Some(Value::Dict(_)) => Ok(()),
                    _ => Err("attributes are set on something else than a dictionary".to_owned()),
                }
            }
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(storage)
            }
            _ => Err("is not used by state dicts; save `model.state_dict()` alone".to_owned()),
        }
    }

    /// Fails when a place that holds `len` values may not hold another.
    fn room(&self, len: usize) -> Result<(), String> {
        if len < self.limit {
            return Ok(());
        }
        Err("builds more values than a file of this size should hold".to_owned())
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        self.room(self.stack.len())?;
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, String> {
        // What stands below a mark cannot be taken before the mark is.
        if self
            .marks
            .last()
            .is_some_and(|mark| *mark >= self.stack.len())
        {
            return Err(underflow());
        }
        self.stack.pop().ok_or_else(underflow)
    }

    fn pop_mark(&mut self) -> Result<usize, String> {
        let mark = self.marks.pop().ok_or_else(underflow)?;
        if mark > self.stack.len() {
            return Err(underflow());
        }
        Ok(mark)
    }

    fn remember(&mut self, key: u32) -> Result<(), String> {
        self.room(self.memo.len())?;
        let value = *self.stack.last().ok_or_else(underflow)?;
        self.memo.insert(key, value);
        Ok(())
    }

    fn text(&self, value: Value) -> Result<&str, String> {
        match value {
            Value::Text(start, end) => self.reader.text_at(start, end),
            _ => Err("a name is not a text".to_owned()),
        }
    }

    fn new_list(&mut self, items: Vec<Value>) -> Result<(), String> {
        // An empty list or dictionary takes one byte in the pickle and more here.
        self.room(self.objects.lists.len() * 2)?;
        self.objects.lists.push(items);
        self.push(Value::List(self.objects.lists.len() as u32 - 1))
    }

    fn new_dict(&mut self) -> Result<(), String> {
        self.room(self.objects.dicts.len() * 2)?;
        self.objects.dicts.push(Vec::new());
        self.push(Value::Dict(self.objects.dicts.len() as u32 - 1))
    }

    /// Makes a tuple of what stands on the stack from `start` up.
    fn new_tuple(&mut self, start: usize) -> Result<(), String> {
        let first = self.objects.items.len();
        self.room(first + (self.stack.len() - start))?;
        self.objects.items.extend(self.stack.drain(start..));
        self.push(Value::Tuple(first as u32, self.objects.items.len() as u32))
    }

    /// Moves what stands on the stack from `start` up into the list below it.
    fn append(&mut self, start: usize) -> Result<(), String> {
        let below = start.checked_sub(1).and_then(|at| self.stack.get(at));
        let Some(Value::List(index)) = below else {
            return Err("appends to something else than a list".to_owned());
        };
        let list = &mut self.objects.lists[*index as usize];
        if list.len() + (self.stack.len() - start) > self.limit {
            return self.room(usize::MAX);
        }
        list.extend(self.stack.drain(start..));
        Ok(())
    }

    /// Moves pairs from `start` up into the dictionary below them.
    fn set(&mut self, start: usize) -> Result<(), String> {
        let below = start.checked_sub(1).and_then(|at| self.stack.get(at));
        let Some(Value::Dict(index)) = below else {
            return Err("sets an item of something else than a dictionary".to_owned());
        };
        let dict = &mut self.objects.dicts[*index as usize];
        let (pairs, rest) = self.stack[start..].as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a key has no value".to_owned());
        }
        if 2 * (dict.len() + pairs.len()) > self.limit {
            return self.room(usize::MAX);
        }
        dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        self.stack.truncate(start);
        Ok(())
    }

    /// The result of a function.
    fn call(&mut self, function: Value, arguments: Value) -> Result<Value, String> {
        let Value::Global(function) = function else {
            return Err("calls something that is not a function".to_owned());
        };
        let unexpected = || format!("`{function}` is called with unexpected arguments");
        let arguments = self.objects.tuple(arguments).ok_or_else(unexpected)?;
        match (function, arguments) {
            (Global::OrderedDict, []) => {
                self.new_dict()?;
                self.pop()
            }
            // The parameter is its tensor.
            (Global::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => Ok(*tensor),
            (
                Global::RebuildTensor,
                &[
                    Value::Storage(storage),
                    Value::Int(offset),
                    shape,
                    strides,
                    ..,
                ],
            ) => {
                let tensor = Tensor {
                    storage: storage as usize,
                    offset: usize::try_from(offset).map_err(|_| unexpected())?,
                    shape: self.sizes(shape)?,
                    strides: self.sizes(strides)?,
                };
                if tensor.shape.len() != tensor.strides.len() {
                    return Err(unexpected());
                }
                self.room(self.objects.tensors.len() * 4)?;
                self.objects.tensors.push(tensor);
                Ok(Value::Tensor(self.objects.tensors.len() as u32 - 1))
            }
            _ => Err(unexpected()),
        }
    }

    /// The numbers of a shape.
    fn sizes(&self, value: Value) -> Result<Box<[usize]>, String> {
        let items = self.objects.tuple(value).unwrap_or(&[Value::None]);
        if items.len() > MAX_DIMENSIONS {
            return Err(format!("a tensor has {} dimensions", items.len()));
        }
        let sizes = items.iter().map(|item| match item {
            Value::Int(size) => usize::try_from(*size).ok(),
            _ => None,
        });
        let sizes: Option<_> = sizes.collect();
        sizes.ok_or_else(|| "a tensor's sizes are not numbers".to_owned())
    }

    /// The storage that a persistent id `('storage', type, key, device, length)` names.
    fn storage(&mut self, id: Value) -> Result<Value, String> {
        let unexpected = || "a persistent id does not name a storage".to_owned();
        let &[
            kind,
            Value::Global(Global::Storage(dtype)),
            Value::Text(start, end),
            _,
            Value::Int(len),
        ] = self.objects.tuple(id).ok_or_else(unexpected)?
        else {
            return Err(unexpected());
        };
        if self.text(kind)? != "storage" {
            return Err(unexpected());
        }
        let len = usize::try_from(len).map_err(|_| unexpected())?;
        let key = start as usize..end as usize;
        self.room(self.objects.storages.len() * 3)?;
        self.objects.storages.push(Storage { dtype, key, len });
        Ok(Value::Storage(self.objects.storages.len() as u32 - 1))
    }
}

fn underflow() -> String {
    "takes a value that is not there".to_owned()
}

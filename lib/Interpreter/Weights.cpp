//===- Weights.cpp - Lazy weight expressions --------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Engine.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "quench/Quantization/PackedWeight.h"
#include "quench/Support/ModelFiles.h"
#include <cstring>
#include <thread>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

bool Interpreter::Engine::isWeight(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return false;
  auto [entry, isNew] = weightOps.try_emplace(op, false);
  if (!isNew)
    return entry->second;
  bool is = isa<qn::WeightOp>(op);
  if (isa<qn::MapOp, qn::QuantizeOp, qn::DequantizeOp, qn::AssembleOp>(op))
    is = op->getNumResults() == 1 &&
         llvm::all_of(op->getOperands(), [&](Value operand) {
           return operand.getDefiningOp<arith::ConstantOp>() ||
                  isWeight(operand);
         });
  return weightOps[op] = is;
}

/// What is not worth a place in the cache: numbers read where they lie.
static bool isBorrowed(Operation *op, const HostTensor &tensor) {
  return isa<qn::WeightOp>(op) && !tensor.isUnique();
}

Expected<HostTensor> Interpreter::Engine::weight(Value value) {
  if (auto found = replaced.find(value); found != replaced.end())
    return found->second;
  Operation *op = value.getDefiningOp();
  if (auto found = cacheIndex.find(op); found != cacheIndex.end()) {
    cache.splice(cache.begin(), cache, found->second);
    return cache.front().tensor;
  }
  Expected<HostTensor> evaluated = evaluate(op);
  if (!evaluated) {
    std::string where;
    llvm::raw_string_ostream(where)
        << "'" << op->getName().getStringRef() << "' at " << op->getLoc();
    return createStringError(where + ": " +
                             llvm::toString(evaluated.takeError()));
  }
  HostTensor tensor = std::move(*evaluated);
  int64_t bytes = tensor.getNumBytes();
  if (isBorrowed(op, tensor) || bytes > options.weightCacheBytes)
    return tensor;
  cache.push_front({op, tensor});
  cacheIndex[op] = cache.begin();
  cachedBytes += bytes;
  while (cachedBytes > options.weightCacheBytes && cache.size() > 1) {
    cachedBytes -= cache.back().tensor.getNumBytes();
    cacheIndex.erase(cache.back().op);
    cache.pop_back();
  }
  return tensor;
}

//===----------------------------------------------------------------------===//
// Leaves
//===----------------------------------------------------------------------===//

Expected<HostTensor> Interpreter::Engine::initializer(StringRef name) {
  auto op = symbols.lookup<qn::InitializerOp>(name);
  if (!op)
    return createStringError("no initializer '" + name + "'");
  RankedTensorType type = op.getTensorType();
  if (!isa<qn::FileAttr>(op.getSource()))
    return constantTensor(op.getSource(), type);
  auto file = cast<qn::FileAttr>(op.getSource());
  QUENCH_TRY(kind, elementKindOf(type));
  if (!options.files)
    return createStringError("initializer '" + name + "' is in file '" +
                             file.getPath() +
                             "', and no files of a model were given");
  QUENCH_TRY(bytes, options.files->get(file.getPath(), file.getOffset(),
                                       file.getBytes()));
  QUENCH_TRY(count, countElements(type.getShape(), elementBytes(kind)));
  if (static_cast<int64_t>(bytes.size()) != count * elementBytes(kind))
    return createStringError("initializer '" + name + "' has " +
                             Twine(bytes.size()) + " bytes, its type needs " +
                             Twine(count * elementBytes(kind)));
  if (reinterpret_cast<uintptr_t>(bytes.data()) % elementBytes(kind) == 0)
    return HostTensor::view(kind, type.getShape(), bytes.data(), nullptr);
  QUENCH_TRY(copy, HostTensor::allocate(kind, type.getShape()));
  std::memcpy(copy.mutableRaw(), bytes.data(), bytes.size());
  return copy;
}

/// The last two dimensions exchanged, in tiles that fit the caches.
static Expected<HostTensor> transposeLast(const HostTensor &tensor) {
  int64_t rank = tensor.getRank();
  if (rank < 2)
    return createStringError("cannot transpose " + tensor.describe());
  SmallVector<int64_t, 4> shape(tensor.getShape());
  std::swap(shape[rank - 1], shape[rank - 2]);
  QUENCH_TRY(result, HostTensor::allocate(tensor.getKind(), shape));
  int64_t rows = tensor.dim(rank - 2), cols = tensor.dim(rank - 1);
  int64_t width = elementBytes(tensor.getKind()), tile = 16;
  char *to = result.mutableData<char>();
  const char *from = tensor.data<char>();
  int64_t matrices = rows * cols ? tensor.getNumElements() / (rows * cols) : 0;
  for (int64_t m = 0; m < matrices; ++m) {
    for (int64_t r0 = 0; r0 < rows; r0 += tile)
      for (int64_t c0 = 0; c0 < cols; c0 += tile)
        for (int64_t r = r0; r < std::min(rows, r0 + tile); ++r)
          for (int64_t c = c0; c < std::min(cols, c0 + tile); ++c)
            std::memcpy(to + (c * rows + r) * width,
                        from + (r * cols + c) * width, width);
    from += rows * cols * width;
    to += rows * cols * width;
  }
  return result;
}

Expected<const Map *> Interpreter::Engine::map(Attribute attribute) {
  std::unique_ptr<Map> &map = maps[attribute];
  if (map)
    return map.get();
  auto interface = dyn_cast<qn::MapInterface>(attribute);
  if (!interface)
    return createStringError("not a map");
  auto read = [&](StringRef name) -> Expected<std::vector<double>> {
    QUENCH_TRY(tensor, initializer(name));
    return toDoubles(tensor);
  };
  QUENCH_TRY(made, interface.instantiate(read));
  map = std::move(made);
  return map.get();
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

/// Chains of maps stay in double until their end.
Expected<std::vector<double>> Interpreter::Engine::weightNumbers(Value value) {
  auto op = value.getDefiningOp<qn::MapOp>();
  if (!op) {
    if (auto constant = value.getDefiningOp<arith::ConstantOp>()) {
      QUENCH_TRY(tensor,
                 constantTensor(constant.getValue(), constant.getType()));
      return toDoubles(tensor);
    }
    QUENCH_TRY(tensor, weight(value));
    return toDoubles(tensor);
  }
  QUENCH_TRY(numbers, weightNumbers(op.getInput()));
  QUENCH_TRY(instance, map(op.getMap()));
  auto type = cast<RankedTensorType>(op.getInput().getType());
  return applyMap(*instance, std::move(numbers), type.getShape(), op.getAxis());
}

Expected<HostTensor> Interpreter::Engine::evaluate(Operation *op) {
  if (auto leaf = dyn_cast<qn::WeightOp>(op)) {
    QUENCH_TRY(tensor, initializer(leaf.getInitializer()));
    if (leaf.getTranspose()) {
      QUENCH_TRY(transposed, transposeLast(tensor));
      tensor = std::move(transposed);
    }
    return toTypeOf(tensor, leaf.getType());
  }
  if (auto mapOp = dyn_cast<qn::MapOp>(op)) {
    auto type = cast<RankedTensorType>(mapOp.getResult().getType());
    QUENCH_TRY(numbers, weightNumbers(mapOp.getResult()));
    QUENCH_TRY(kind, elementKindOf(type));
    return fromDoubles(numbers, kind, type.getShape());
  }
  if (auto quantize = dyn_cast<qn::QuantizeOp>(op))
    return evaluateQuantize(quantize);
  if (auto dequantize = dyn_cast<qn::DequantizeOp>(op)) {
    QUENCH_TRY(tensor, weight(dequantize.getInput()));
    return toTypeOf(tensor, dequantize.getType());
  }
  if (auto assemble = dyn_cast<qn::AssembleOp>(op))
    return evaluateAssemble(assemble);
  return createStringError("not a weight expression");
}

Expected<HostTensor> Interpreter::Engine::evaluateQuantize(qn::QuantizeOp op) {
  if (options.quantized) {
    QUENCH_TRY(given, options.quantized(op.getResult()));
    if (given)
      return given;
  }
  QUENCH_TRY(quantizer, getQuantizer(op.getQuantizer()));
  QUENCH_TRY(format, getFormat(op.getType().getFormat().getSpec()));
  HostTensor input;
  if (op.getInput().getDefiningOp<arith::ConstantOp>()) {
    QUENCH_TRY(numbers, weightNumbers(op.getInput()));
    QUENCH_TRY(made, fromDoubles(numbers, ElementKind::F32,
                                 op.getInput().getType().getShape()));
    input = made;
  } else {
    // The expression below is needed once only: it does not enter the cache.
    QUENCH_TRY(made, evaluate(op.getInput().getDefiningOp()));
    QUENCH_TRY(floats, toF32(made));
    input = floats;
  }
  if (input.getRank() != 2)
    return createStringError("a weight to quantize has rank 2, found " +
                             input.describe());
  QuantizeProblem problem;
  problem.format = format;
  problem.rows = input.dim(0);
  problem.cols = input.dim(1);
  problem.threads = std::max(1u, std::thread::hardware_concurrency());
  QUENCH_TRY(result, HostTensor::allocate(ElementKind::F32, input.getShape()));
  auto read = [&](int64_t begin, int64_t) -> Expected<const float *> {
    return input.data<float>() + begin * problem.cols;
  };
  QUENCH_TRY(packed, quantizeWeight(*quantizer, problem, read,
                                    result.mutableData<float>()));
  (void)packed;
  return result;
}

/// `count` codes of `bits` bits, low bits first; each of `rows` rows begins at
/// a byte.
static std::vector<int32_t> unpackCodes(const HostTensor &tensor, int64_t rows,
                                        int64_t perRow, unsigned bits,
                                        bool highFirst = false) {
  std::vector<int32_t> codes(rows * perRow);
  ArrayRef<uint8_t> bytes(tensor.data<uint8_t>(), tensor.getNumBytes());
  bool isSigned = tensor.getKind() == ElementKind::I8;
  int64_t rowBytes = (perRow * bits + 7) / 8;
  bool packed = tensor.getNumElements() != rows * perRow;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < perRow; ++i) {
      int32_t &code = codes[r * perRow + i];
      if (!packed) {
        uint8_t byte = bytes[r * perRow + i];
        code = isSigned ? static_cast<int8_t>(byte) : byte;
        continue;
      }
      int64_t bit = i * bits;
      if (highFirst)
        bit = bit / 8 * 8 + 8 - bits - bit % 8;
      code = bytes[r * rowBytes + bit / 8] >> (bit % 8) & ((1u << bits) - 1);
    }
  return codes;
}

/// Whether a byte tensor holds rows x perRow codes, unpacked or packed.
static bool holdsCodes(const HostTensor &tensor, int64_t rows, int64_t perRow,
                       unsigned bits) {
  return elementBytes(tensor.getKind()) == 1 &&
         (tensor.getNumElements() == rows * perRow ||
          tensor.getNumElements() == rows * ((perRow * bits + 7) / 8));
}

Expected<HostTensor> Interpreter::Engine::evaluateAssemble(qn::AssembleOp op) {
  auto operand = [&](Value value) -> Expected<HostTensor> {
    if (auto constant = value.getDefiningOp<arith::ConstantOp>())
      return constantTensor(constant.getValue(), constant.getType());
    return evaluate(value.getDefiningOp());
  };
  auto type = cast<RankedTensorType>(op.getType());
  unsigned bits = op.getBits();
  int64_t group = op.getGroup();
  if (type.getRank() != 2 || !type.hasStaticShape() ||
      (bits != 2 && bits != 4 && bits != 8) || group < 0)
    return createStringError(
        "a weight [n, k] of codes of 2, 4 or 8 bits is wanted");
  int64_t rows = type.getDimSize(0), cols = type.getDimSize(1);
  if (group == 0 || group > cols)
    group = std::max<int64_t>(cols, 1);
  int64_t groups = (cols + group - 1) / group;
  QUENCH_TRY(codeTensor, operand(op.getCodes()));
  QUENCH_TRY(scaleTensor, operand(op.getScales()));
  QUENCH_TRY(scales, toF32(scaleTensor));
  // Packed codes fill whole groups.
  int64_t perRow =
      codeTensor.getNumElements() == rows * cols ? cols : groups * group;
  if (!holdsCodes(codeTensor, rows, perRow, bits))
    return createStringError("codes " + codeTensor.describe() + " for " +
                             Twine(rows) + " x " + Twine(cols) + " numbers");
  bool perTensor = scales.getNumElements() == 1;
  if (!perTensor && scales.getNumElements() != rows * groups)
    return createStringError("scales " + scales.describe() + ", wanted " +
                             Twine(rows) + " x " + Twine(groups));
  auto levels = op.getLevels();
  std::vector<int32_t> codes =
      unpackCodes(codeTensor, rows, perRow, bits, levels.has_value());
  std::vector<double> zeros(rows * groups, 0);
  if (op.getZeros()) {
    QUENCH_TRY(zeroTensor, operand(op.getZeros()));
    if (isFloatKind(zeroTensor.getKind())) {
      if (zeroTensor.getNumElements() != rows * groups)
        return createStringError("zero points " + zeroTensor.describe() +
                                 ", wanted " + Twine(rows) + " x " +
                                 Twine(groups));
      QUENCH_TRY(numbers, toDoubles(zeroTensor));
      zeros = std::move(numbers);
    } else if (zeroTensor.getNumElements() == 1) {
      std::fill(zeros.begin(), zeros.end(), zeroTensor.at(0));
    } else if (holdsCodes(zeroTensor, rows, groups, bits)) {
      std::vector<int32_t> unpacked =
          unpackCodes(zeroTensor, rows, groups, bits);
      zeros.assign(unpacked.begin(), unpacked.end());
    } else {
      return createStringError("zero points " + zeroTensor.describe() +
                               ", wanted " + Twine(rows) + " x " +
                               Twine(groups));
    }
  }
  QUENCH_TRY(result, HostTensor::allocate(ElementKind::F32, {rows, cols}));
  const float *scale = scales.data<float>();
  float *to = result.mutableData<float>();
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      int64_t g = r * groups + c / group, code = codes[r * perRow + c];
      float level =
          levels ? (*levels)[code & 15] : static_cast<float>(code - zeros[g]);
      to[r * cols + c] = scale[perTensor ? 0 : g] * level;
    }
  return toTypeOf(result, type);
}

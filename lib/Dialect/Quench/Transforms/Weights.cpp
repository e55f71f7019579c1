//===- Weights.cpp - Evaluating lazy weight expressions -*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Dialect/Quench/Transforms/Weights.h"
#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/Endian.h"
#include <cstring>

using namespace mlir;
using namespace quench;
using namespace quench::qn;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

WeightEvaluator::WeightEvaluator(ModuleOp module, ModelFiles &files)
    : module(module), symbols(module), files(files) {}

bool WeightEvaluator::isWeight(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op || !isa<WeightOp, MapOp, QuantizeOp, DequantizeOp, AssembleOp>(op))
    return false;
  return llvm::all_of(op->getOperands(), isWeight);
}

std::string WeightEvaluator::key(Value value) {
  Operation *op = value.getDefiningOp();
  std::string text;
  llvm::raw_string_ostream os(text);
  os << op->getName().stripDialect() << op->getAttrDictionary() << ":"
     << value.getType();
  for (Value operand : op->getOperands())
    os << "(" << key(operand) << ")";
  return text;
}

InitializerOp WeightEvaluator::lookup(StringRef name) {
  return symbols.lookup<InitializerOp>(name);
}

Expected<ArrayRef<char>> WeightEvaluator::bytes(StringRef name) {
  InitializerOp init = lookup(name);
  if (!init)
    return createStringError("no initializer '" + name + "'");
  if (auto file = dyn_cast<FileAttr>(init.getSource()))
    return files.get(file.getPath(), file.getOffset(), file.getBytes());
  if (auto dense = dyn_cast<DenseElementsAttr>(init.getSource());
      dense && !dense.isSplat())
    return dense.getRawData();
  return createStringError("initializer '" + name + "' has no bytes to read");
}

//===----------------------------------------------------------------------===//
// Elements to numbers
//===----------------------------------------------------------------------===//

/// Reads element i of dense little-endian storage.
template <typename T>
static double readElement(Type type, const char *data, int64_t i) {
  using namespace llvm::support;
  auto get = [&](auto zero) {
    return endian::read<decltype(zero), llvm::endianness::little>(
        data + i * sizeof(zero));
  };
  if (type.isF32())
    return llvm::bit_cast<float>(get(uint32_t(0)));
  if (type.isF64())
    return llvm::bit_cast<double>(get(uint64_t(0)));
  if (type.isBF16())
    return llvm::bit_cast<float>(uint32_t(get(uint16_t(0))) << 16);
  if (type.isF16())
    return llvm::APFloat(llvm::APFloat::IEEEhalf(),
                         llvm::APInt(16, get(uint16_t(0))))
        .convertToDouble();
  bool isUnsigned = type.isUnsignedInteger();
  switch (type.getIntOrFloatBitWidth()) {
  case 1:
  case 8:
    return isUnsigned ? double(get(uint8_t(0))) : double(get(int8_t(0)));
  case 16:
    return isUnsigned ? double(get(uint16_t(0))) : double(get(int16_t(0)));
  case 32:
    return isUnsigned ? double(get(uint32_t(0))) : double(get(int32_t(0)));
  default:
    return isUnsigned ? double(get(uint64_t(0))) : double(get(int64_t(0)));
  }
}

Expected<std::vector<double>> WeightEvaluator::numbers(StringRef name) {
  InitializerOp init = lookup(name);
  if (!init)
    return createStringError("no initializer '" + name + "'");
  RankedTensorType type = init.getTensorType();
  std::vector<double> result(type.getNumElements());
  if (auto dense = dyn_cast<DenseElementsAttr>(init.getSource());
      dense && (dense.isSplat() || type.getElementType().isInteger(1))) {
    int64_t i = 0;
    if (isa<FloatType>(type.getElementType()))
      for (const APFloat &v : dense.getValues<APFloat>()) {
        bool ignored;
        APFloat d = v;
        d.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven,
                  &ignored);
        result[i++] = d.convertToDouble();
      }
    else
      for (const APInt &v : dense.getValues<APInt>())
        result[i++] =
            type.getElementType().isUnsignedInteger() || v.getBitWidth() == 1
                ? double(v.getZExtValue())
                : double(v.getSExtValue());
    return result;
  }
  Expected<ArrayRef<char>> data = bytes(name);
  if (!data)
    return data.takeError();
  for (size_t i = 0; i != result.size(); ++i)
    result[i] = readElement<double>(type.getElementType(), data->data(), i);
  return result;
}

/// Copies elements [i, i + n * stride) with a stride into floats.
static void copyElements(Type type, const char *data, int64_t i, int64_t stride,
                         int64_t n, float *out) {
  if (type.isF32()) {
    for (int64_t j = 0; j != n; ++j)
      std::memcpy(out + j, data + 4 * (i + j * stride), 4);
    return;
  }
  for (int64_t j = 0; j != n; ++j)
    out[j] = static_cast<float>(readElement<float>(type, data, i + j * stride));
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

Expected<std::shared_ptr<Map>> WeightEvaluator::instantiate(MapInterface map) {
  std::shared_ptr<Map> &entry = maps[map.getAsOpaquePointer()];
  if (entry)
    return entry;
  Expected<std::unique_ptr<Map>> made =
      map.instantiate([&](StringRef name) { return numbers(name); });
  if (!made)
    return made.takeError();
  entry = std::move(*made);
  return entry;
}

bool WeightEvaluator::needsAllRows(Value value) {
  while (auto map = value.getDefiningOp<MapOp>()) {
    if (map.getAxis() == 0)
      return true;
    value = map.getInput();
  }
  return !value.getDefiningOp<WeightOp>();
}

Error WeightEvaluator::rows(Value value, int64_t begin, int64_t end,
                            std::vector<float> &result) {
  auto type = cast<ShapedType>(value.getType());
  int64_t cols = type.getDimSize(1), count = end - begin;
  result.resize(count * cols);
  Operation *op = value.getDefiningOp();

  if (auto weight = dyn_cast<WeightOp>(op)) {
    InitializerOp init = lookup(weight.getInitializer());
    if (!init)
      return createStringError("no initializer '" + weight.getInitializer() +
                               "'");
    Type element = init.getTensorType().getElementType();
    if (isa<DenseElementsAttr>(init.getSource())) {
      Expected<std::vector<double>> data = numbers(weight.getInitializer());
      if (!data)
        return data.takeError();
      int64_t total = type.getDimSize(0);
      for (int64_t r = 0; r != count; ++r)
        for (int64_t c = 0; c != cols; ++c)
          result[r * cols + c] = static_cast<float>(
              weight.getTranspose() ? (*data)[c * total + begin + r]
                                    : (*data)[(begin + r) * cols + c]);
      return Error::success();
    }
    Expected<ArrayRef<char>> data = bytes(weight.getInitializer());
    if (!data)
      return data.takeError();
    if (!weight.getTranspose()) {
      copyElements(element, data->data(), begin * cols, 1, count * cols,
                   result.data());
      return Error::success();
    }
    // The file holds [cols, rows]: read each line's piece, write it across.
    int64_t total = type.getDimSize(0);
    std::vector<float> line(count);
    for (int64_t c = 0; c != cols; ++c) {
      copyElements(element, data->data(), c * total + begin, 1, count,
                   line.data());
      for (int64_t r = 0; r != count; ++r)
        result[r * cols + c] = line[r];
    }
    return Error::success();
  }

  if (auto map = dyn_cast<MapOp>(op)) {
    Expected<std::shared_ptr<Map>> made = instantiate(map.getMapInterface());
    if (!made)
      return made.takeError();
    int64_t in = (*made)->in(), out = (*made)->out();
    if (map.getAxis() == 1) {
      std::vector<float> source;
      if (Error error = rows(map.getInput(), begin, end, source))
        return error;
      std::vector<double> from(source.begin(), source.end()), to(count * out);
      (*made)->apply(from.data(), count, to.data());
      std::copy(to.begin(), to.end(), result.begin());
      return Error::success();
    }
    // Along the rows: all of them are needed. Work on bands of columns.
    std::vector<float> source;
    if (Error error = rows(map.getInput(), 0, in, source))
      return error;
    constexpr int64_t band = 64;
    for (int64_t c0 = 0; c0 < cols; c0 += band) {
      int64_t n = std::min(band, cols - c0);
      std::vector<double> from(n * in), to(n * out);
      for (int64_t r = 0; r != in; ++r)
        for (int64_t c = 0; c != n; ++c)
          from[c * in + r] = source[r * cols + c0 + c];
      (*made)->apply(from.data(), n, to.data());
      for (int64_t r = begin; r != end; ++r)
        for (int64_t c = 0; c != n; ++c)
          result[(r - begin) * cols + c0 + c] = to[c * out + r];
    }
    return Error::success();
  }

  if (auto assemble = dyn_cast<AssembleOp>(op)) {
    Expected<std::vector<float>> values = all(value);
    if (!values)
      return values.takeError();
    std::copy(values->begin() + begin * cols, values->begin() + end * cols,
              result.begin());
    return Error::success();
  }
  return createStringError("'" + op->getName().getStringRef() +
                           "' is not a part of a weight expression");
}

Expected<AssembledWeight> WeightEvaluator::assembled(AssembleOp assemble) {
  auto type = cast<ShapedType>(assemble.getType());
  int64_t n = type.getDimSize(0), k = type.getDimSize(1);
  int64_t bits = assemble.getBits(), group = assemble.getGroup();
  int64_t groups = (k + group - 1) / group;
  auto read = [&](Value v) -> Expected<std::vector<double>> {
    auto weight = v.getDefiningOp<WeightOp>();
    if (!weight)
      return createStringError("codes, scales and zero points of an assembled "
                               "weight must be initializers");
    Expected<std::vector<double>> data = numbers(weight.getInitializer());
    auto shape = cast<ShapedType>(weight.getType()).getShape();
    if (!data || !weight.getTranspose() || shape.size() != 2)
      return data;
    std::vector<double> turned(data->size());
    for (int64_t r = 0; r != shape[0]; ++r)
      for (int64_t c = 0; c != shape[1]; ++c)
        turned[r * shape[1] + c] = (*data)[c * shape[0] + r];
    return turned;
  };
  Expected<std::vector<double>> codes = read(assemble.getCodes());
  if (!codes)
    return codes.takeError();
  Expected<std::vector<double>> scales = read(assemble.getScales());
  if (!scales)
    return scales.takeError();
  std::vector<double> zeros;
  if (assemble.getZeros()) {
    Expected<std::vector<double>> z = read(assemble.getZeros());
    if (!z)
      return z.takeError();
    zeros = std::move(*z);
  }
  // ONNX packs low bits first, each row of groups from a byte's beginning.
  int64_t perByte = 8 / bits, mask = (1 << bits) - 1;
  int64_t lineBytes = codes->size() / std::max<int64_t>(n, 1);
  int64_t zeroBytes =
      zeros.empty() ? 0 : zeros.size() / std::max<int64_t>(n, 1);
  auto unpack = [&](const std::vector<double> &data, int64_t line,
                    int64_t i) -> int64_t {
    int64_t byte = static_cast<int64_t>(data[line + i / perByte]) & 255;
    int64_t place = i % perByte;
    if (assemble.getLevels())
      place = perByte - 1 - place;
    return (byte >> (place * bits)) & mask;
  };
  AssembledWeight result;
  result.rows = n;
  result.cols = k;
  result.group = group;
  result.groups = groups;
  result.bits = bits;
  if (auto levels = assemble.getLevels())
    result.table.assign(levels->begin(), levels->end());
  result.levels.resize(n * k);
  result.scales.resize(n * groups);
  result.zeros.resize(n * groups);
  // Codes are packed unsigned, or stored as they are, of either sign.
  bool packed = lineBytes != k || bits != 8;
  auto stored = cast<ShapedType>(assemble.getCodes().getType());
  bool isSigned = !packed && !stored.getElementType().isUnsignedInteger();
  double lowest = isSigned ? -double(1 << (bits - 1)) : 0;
  for (int64_t r = 0; r != n; ++r)
    for (int64_t g = 0; g != groups; ++g) {
      double zero = packed ? double(1 << (bits - 1)) : 0;
      if (zeros.size() == 1)
        zero = zeros[0];
      else if (!zeros.empty())
        zero = zeroBytes == groups && bits == 8
                   ? zeros[r * groups + g]
                   : double(unpack(zeros, r * zeroBytes, g));
      double scale =
          scales->size() == 1 ? (*scales)[0] : (*scales)[r * groups + g];
      result.scales[r * groups + g] = static_cast<float>(scale);
      result.zeros[r * groups + g] = static_cast<float>(zero - lowest);
      for (int64_t c = g * group; c != std::min((g + 1) * group, k); ++c) {
        double code = packed ? double(unpack(*codes, r * lineBytes, c))
                             : (*codes)[r * k + c];
        result.levels[r * k + c] =
            result.table.empty() ? static_cast<float>(code - zero)
                                 : result.table[static_cast<int64_t>(code)];
      }
    }
  return result;
}

Expected<std::vector<float>> WeightEvaluator::all(Value value) {
  auto type = cast<ShapedType>(value.getType());
  Operation *op = value.getDefiningOp();
  if (auto weight = dyn_cast<WeightOp>(op); weight && type.getRank() != 2) {
    Expected<std::vector<double>> data = numbers(weight.getInitializer());
    if (!data)
      return data.takeError();
    return std::vector<float>(data->begin(), data->end());
  }
  if (auto map = dyn_cast<MapOp>(op); map && type.getRank() == 1) {
    Expected<std::vector<float>> source = all(map.getInput());
    if (!source)
      return source.takeError();
    Expected<std::shared_ptr<Map>> made = instantiate(map.getMapInterface());
    if (!made)
      return made.takeError();
    std::vector<double> from(source->begin(), source->end()),
        to((*made)->out());
    (*made)->apply(from.data(), 1, to.data());
    return std::vector<float>(to.begin(), to.end());
  }
  if (auto assemble = dyn_cast<AssembleOp>(op)) {
    Expected<AssembledWeight> w = assembled(assemble);
    if (!w)
      return w.takeError();
    std::vector<float> result(w->levels.size());
    for (int64_t r = 0; r != w->rows; ++r)
      for (int64_t c = 0; c != w->cols; ++c)
        result[r * w->cols + c] = w->scales[r * w->groups + c / w->group] *
                                  w->levels[r * w->cols + c];
    return result;
  }
  if (type.getRank() == 2) {
    std::vector<float> result;
    if (Error error = rows(value, 0, type.getDimSize(0), result))
      return error;
    return result;
  }
  return createStringError("'" + op->getName().getStringRef() + "' of rank " +
                           llvm::Twine(type.getRank()) +
                           " is not a part of a weight expression");
}

WeightRows::WeightRows(WeightEvaluator &evaluator, Value value)
    : evaluator(evaluator), value(value),
      isWhole(WeightEvaluator::needsAllRows(value)) {}

int64_t WeightRows::rows() const {
  return cast<ShapedType>(value.getType()).getDimSize(0);
}

int64_t WeightRows::cols() const {
  return cast<ShapedType>(value.getType()).getDimSize(1);
}

Expected<const float *> WeightRows::operator()(int64_t begin, int64_t end) {
  if (!isWhole || numbers.empty())
    if (Error error = evaluator.rows(value, isWhole ? 0 : begin,
                                     isWhole ? rows() : end, numbers))
      return std::move(error);
  return numbers.data() + (isWhole ? begin * cols() : 0);
}

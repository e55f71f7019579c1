//===- TensorOps.cpp - The tensor dialect -----------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Engine.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include <cstring>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

using Shape = SmallVector<int64_t, 6>;

static const HostTensor &operandOf(Step &step, Value value) {
  for (auto [i, operand] : llvm::enumerate(step.op->getOperands()))
    if (operand == value)
      return step.operands[i];
  return step.operands.front();
}

static Shape resolve(Step &step, ArrayRef<OpFoldResult> sizes) {
  Shape result;
  for (OpFoldResult size : sizes) {
    if (auto attribute = dyn_cast<Attribute>(size))
      result.push_back(cast<IntegerAttr>(attribute).getInt());
    else
      result.push_back(operandOf(step, cast<Value>(size)).intAt(0));
  }
  return result;
}

static Error give(Step &step, Expected<HostTensor> tensor) {
  if (!tensor)
    return tensor.takeError();
  step.results.push_back(std::move(*tensor));
  return Error::success();
}

static Expected<ElementKind> resultKind(Step &step) {
  return elementKindOf(step.op->getResult(0).getType());
}

/// The same numbers in another shape.
static Error reshape(Step &step, ArrayRef<int64_t> shape) {
  HostTensor input = std::move(step.operands[0]);
  QUENCH_TRY(count, countElements(shape, 1));
  if (count != input.getNumElements()) {
    HostTensor wanted = HostTensor::view(input.getKind(), shape, nullptr, {});
    return createStringError("cannot see " + input.describe() + " as " +
                             wanted.describe());
  }
  step.results.push_back(input.reshaped(shape));
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Strided blocks
//===----------------------------------------------------------------------===//

/// Copies a block of `sizes` elements between memory with two sets of strides
/// (in elements).
static void copyBlock(ArrayRef<int64_t> sizes, int64_t width, const char *from,
                      ArrayRef<int64_t> fromStrides, char *to,
                      ArrayRef<int64_t> toStrides) {
  if (sizes.empty()) {
    std::memcpy(to, from, width);
    return;
  }
  bool dense = sizes.size() == 1 && fromStrides[0] == 1 && toStrides[0] == 1;
  if (dense) {
    std::memcpy(to, from, sizes[0] * width);
    return;
  }
  for (int64_t i = 0; i < sizes[0]; ++i)
    copyBlock(sizes.drop_front(), width, from + i * fromStrides[0] * width,
              fromStrides.drop_front(), to + i * toStrides[0] * width,
              toStrides.drop_front());
}

static Shape stridesOf(ArrayRef<int64_t> shape) {
  Shape strides(shape.size(), 1);
  for (int64_t d = static_cast<int64_t>(shape.size()) - 2; d >= 0; --d)
    strides[d] = strides[d + 1] * shape[d + 1];
  return strides;
}

namespace {
/// A block of a tensor: where it begins and its strides there.
struct Slice {
  int64_t start = 0;
  Shape sizes, strides;
};
} // namespace

static Expected<Slice> regionOf(const HostTensor &tensor, Shape offsets,
                                Shape sizes, Shape steps) {
  Slice region;
  Shape strides = stridesOf(tensor.getShape());
  if (offsets.size() != strides.size())
    return createStringError("a slice of another rank");
  for (size_t d = 0; d < strides.size(); ++d) {
    int64_t last = offsets[d] + (sizes[d] - 1) * steps[d];
    if (sizes[d] < 0 ||
        (sizes[d] > 0 && (offsets[d] < 0 || offsets[d] >= tensor.dim(d) ||
                          last < 0 || last >= tensor.dim(d))))
      return createStringError(
          "a slice of " + Twine(sizes[d]) + " numbers from " +
          Twine(offsets[d]) + " on with steps of " + Twine(steps[d]) +
          " in dimension " + Twine(d) + " of " + tensor.describe());
    region.start += offsets[d] * strides[d];
    region.strides.push_back(strides[d] * steps[d]);
  }
  region.sizes = std::move(sizes);
  return region;
}

static Error extractSlice(Step &step) {
  auto op = cast<tensor::ExtractSliceOp>(step.op);
  HostTensor &source = step.operands[0];
  QUENCH_TRY(region, regionOf(source, resolve(step, op.getMixedOffsets()),
                              resolve(step, op.getMixedSizes()),
                              resolve(step, op.getMixedStrides())));
  QUENCH_TRY(full, HostTensor::allocate(source.getKind(), region.sizes));
  int64_t width = elementBytes(source.getKind());
  if (full.getNumElements() > 0)
    copyBlock(region.sizes, width, source.data<char>() + region.start * width,
              region.strides, full.mutableData<char>(),
              stridesOf(region.sizes));
  // Dimensions of size 1 may be dropped from the type.
  llvm::SmallBitVector dropped = op.getDroppedDims();
  Shape shape;
  for (size_t d = 0; d < region.sizes.size(); ++d)
    if (!dropped.test(d))
      shape.push_back(region.sizes[d]);
  step.results.push_back(full.reshaped(shape));
  return Error::success();
}

static Error insertSlice(Step &step) {
  auto op = cast<tensor::InsertSliceOp>(step.op);
  HostTensor source = step.operands[0];
  QUENCH_TRY(region,
             regionOf(step.operands[1], resolve(step, op.getMixedOffsets()),
                      resolve(step, op.getMixedSizes()),
                      resolve(step, op.getMixedStrides())));
  int64_t count = 1;
  for (int64_t size : region.sizes)
    count *= size;
  if (count != source.getNumElements())
    return createStringError("a slice of " + Twine(count) +
                             " numbers is given " + source.describe());
  HostTensor result = std::move(step.operands[1]);
  if (Error error = result.detach())
    return error;
  int64_t width = elementBytes(result.getKind());
  if (count > 0)
    copyBlock(region.sizes, width, source.data<char>(), stridesOf(region.sizes),
              result.mutableData<char>() + region.start * width,
              region.strides);
  step.results.push_back(std::move(result));
  return Error::success();
}

static Error concat(Step &step) {
  auto op = cast<tensor::ConcatOp>(step.op);
  int64_t axis = op.getDim();
  Shape shape(step.operands[0].getShape());
  shape[axis] = 0;
  for (const HostTensor &part : step.operands) {
    if (part.getRank() != static_cast<int64_t>(shape.size()))
      return createStringError("parts of different rank");
    for (int64_t d = 0; d < part.getRank(); ++d)
      if (d != axis && part.dim(d) != shape[d])
        return createStringError(
            "parts " + step.operands[0].describe() + " and " + part.describe() +
            " of a concatenation along dimension " + Twine(axis));
    shape[axis] += part.dim(axis);
  }
  QUENCH_TRY(result, HostTensor::allocate(step.operands[0].getKind(), shape));
  int64_t width = elementBytes(result.getKind());
  Shape strides = stridesOf(shape);
  int64_t at = 0;
  for (const HostTensor &part : step.operands) {
    if (part.getNumElements() > 0)
      copyBlock(
          part.getShape(), width, part.data<char>(), stridesOf(part.getShape()),
          result.mutableData<char>() + at * strides[axis] * width, strides);
    at += part.dim(axis);
  }
  step.results.push_back(std::move(result));
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Single elements, bodies, gather
//===----------------------------------------------------------------------===//

/// The element at operands[first], operands[first + 1], ...
static Expected<int64_t> position(Step &step, const HostTensor &tensor,
                                  size_t first) {
  int64_t offset = 0;
  for (int64_t d = 0; d < tensor.getRank(); ++d) {
    int64_t i = step.operands[first + d].intAt(0);
    if (i < 0 || i >= tensor.dim(d))
      return createStringError("index " + Twine(i) + " of dimension " +
                               Twine(d) + " of " + tensor.describe());
    offset = offset * tensor.dim(d) + i;
  }
  return offset;
}

static Error extract(Step &step) {
  const HostTensor &tensor = step.operands[0];
  QUENCH_TRY(offset, position(step, tensor, 1));
  QUENCH_TRY(result, HostTensor::allocate(tensor.getKind(), {}));
  int64_t width = elementBytes(tensor.getKind());
  std::memcpy(result.mutableRaw(), tensor.data<char>() + offset * width, width);
  step.results.push_back(std::move(result));
  return Error::success();
}

static Error insert(Step &step) {
  QUENCH_TRY(offset, position(step, step.operands[1], 2));
  HostTensor result = std::move(step.operands[1]);
  if (Error error = result.detach())
    return error;
  int64_t width = elementBytes(result.getKind());
  std::memcpy(result.mutableData<char>() + offset * width,
              step.operands[0].raw(), width);
  step.results.push_back(std::move(result));
  return Error::success();
}

static Error fromElements(Step &step) {
  auto type = cast<RankedTensorType>(step.op->getResult(0).getType());
  QUENCH_TRY(kind, resultKind(step));
  QUENCH_TRY(result, HostTensor::allocate(kind, type.getShape()));
  int64_t width = elementBytes(kind);
  for (auto [i, element] : llvm::enumerate(step.operands))
    std::memcpy(result.mutableData<char>() + i * width, element.raw(), width);
  step.results.push_back(std::move(result));
  return Error::success();
}

static Expected<HostTensor> filled(const HostTensor &value,
                                   ArrayRef<int64_t> shape) {
  QUENCH_TRY(result, HostTensor::allocate(value.getKind(), shape));
  int64_t width = elementBytes(value.getKind());
  char *to = result.mutableData<char>();
  for (int64_t i = 0; i < result.getNumElements(); ++i)
    std::memcpy(to + i * width, value.raw(), width);
  return result;
}

static Error splat(Step &step) {
  auto op = cast<tensor::SplatOp>(step.op);
  Shape shape(op.getType().getShape());
  size_t next = 1;
  for (int64_t &size : shape)
    if (ShapedType::isDynamic(size))
      size = step.operands[next++].intAt(0);
  return give(step, filled(step.operands[0], shape));
}

static Error empty(Step &step) {
  auto op = cast<tensor::EmptyOp>(step.op);
  QUENCH_TRY(kind, resultKind(step));
  return give(step,
              HostTensor::allocate(kind, resolve(step, op.getMixedSizes())));
}

/// Elements from a body that has the indices as arguments.
static Error generate(Step &step) {
  auto op = cast<tensor::GenerateOp>(step.op);
  QUENCH_TRY(kind, resultKind(step));
  Shape shape(cast<RankedTensorType>(op.getType()).getShape());
  size_t next = 0;
  for (int64_t &size : shape)
    if (ShapedType::isDynamic(size))
      size = step.operands[next++].intAt(0);
  QUENCH_TRY(result, HostTensor::allocate(kind, shape));
  auto capture = [&](Value value) {
    return step.engine.get(value, step.values);
  };
  QUENCH_TRY(tape, Tape::compileBlock(op.getBody().front(), capture,
                                      shape.size(), true));
  Tape::Frame frame(tape);
  Shape at(shape.size(), 0);
  void *to = result.mutableRaw();
  for (int64_t start = 0; start < result.getNumElements(); start += kChunk) {
    int64_t n = std::min(kChunk, result.getNumElements() - start);
    for (int64_t i = 0; i < n; ++i) {
      for (size_t d = 0; d < shape.size(); ++d)
        frame.index(d)[i] = at[d];
      for (size_t d = shape.size(); d-- > 0;) {
        if (++at[d] < shape[d])
          break;
        at[d] = 0;
      }
    }
    QUENCH_CHECK(frame.run(n));
    storeRegister(kind, to, start, 1, n, frame.result(0));
  }
  step.results.push_back(std::move(result));
  return Error::success();
}

static Error pad(Step &step) {
  auto op = cast<tensor::PadOp>(step.op);
  const HostTensor &source = step.operands[0];
  Shape low = resolve(step, op.getMixedLowPad());
  Shape high = resolve(step, op.getMixedHighPad());
  Shape shape;
  for (int64_t d = 0; d < source.getRank(); ++d) {
    if (low[d] < 0 || high[d] < 0)
      return createStringError("negative padding");
    shape.push_back(low[d] + source.dim(d) + high[d]);
  }
  Value padding = op.getConstantPaddingValue();
  if (!padding)
    return createStringError("padding that depends on the position");
  HostTensor value;
  Attribute constant;
  if (matchPattern(padding, m_Constant(&constant))) {
    QUENCH_TRY(got, constantTensor(constant, padding.getType()));
    value = got;
  } else {
    QUENCH_TRY(got, step.engine.get(padding, step.values));
    value = got;
  }
  QUENCH_TRY(result, filled(value, shape));
  Shape ones(shape.size(), 1);
  QUENCH_TRY(region, regionOf(result, low, Shape(source.getShape()), ones));
  int64_t width = elementBytes(source.getKind());
  if (source.getNumElements() > 0)
    copyBlock(region.sizes, width, source.data<char>(), stridesOf(region.sizes),
              result.mutableData<char>() + region.start * width,
              region.strides);
  step.results.push_back(std::move(result));
  return Error::success();
}

/// result[i..., rest] = source at indices[i..., :] in gather_dims; the gathered
/// dimensions have size 1 or are dropped.
static Error gather(Step &step) {
  auto op = cast<tensor::GatherOp>(step.op);
  const HostTensor &source = step.operands[0], &indices = step.operands[1];
  ArrayRef<int64_t> dims = op.getGatherDims();
  int64_t last = indices.getRank() - 1;
  if (last < 0 || indices.dim(last) != static_cast<int64_t>(dims.size()))
    return createStringError("indices " + indices.describe() + " for " +
                             Twine(dims.size()) + " gathered dimensions");
  Shape shape(indices.getShape().drop_back());
  Shape sizes(source.getShape()), strides = stridesOf(source.getShape());
  bool reduced =
      op.getResultType().getRank() < last + static_cast<int64_t>(sizes.size());
  for (int64_t d : dims)
    sizes[d] = 1;
  for (int64_t d = 0; d < source.getRank(); ++d)
    if (!reduced || !llvm::is_contained(dims, d))
      shape.push_back(sizes[d]);
  QUENCH_TRY(result, HostTensor::allocate(source.getKind(), shape));
  int64_t width = elementBytes(source.getKind());
  int64_t count = dims.empty() ? 1 : indices.getNumElements() / dims.size();
  int64_t block = 1;
  for (int64_t size : sizes)
    block *= size;
  char *to = result.mutableData<char>();
  for (int64_t i = 0; i < count && block > 0; ++i) {
    int64_t start = 0;
    for (auto [j, d] : llvm::enumerate(dims)) {
      int64_t index = indices.intAt(i * dims.size() + j);
      if (index < 0 || index >= source.dim(d))
        return createStringError("index " + Twine(index) + " of dimension " +
                                 Twine(d) + " of " + source.describe());
      start += index * strides[d];
    }
    copyBlock(sizes, width, source.data<char>() + start * width, strides,
              to + i * block * width, stridesOf(sizes));
  }
  step.results.push_back(std::move(result));
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

static Error dim(Step &step) {
  int64_t d = step.operands[1].intAt(0);
  if (d < 0 || d >= step.operands[0].getRank())
    return createStringError("dimension " + Twine(d) + " of " +
                             step.operands[0].describe());
  step.results.push_back(
      HostTensor::scalar(ElementKind::I64, step.operands[0].dim(d)));
  return Error::success();
}

static Error rank(Step &step) {
  step.results.push_back(
      HostTensor::scalar(ElementKind::I64, step.operands[0].getRank()));
  return Error::success();
}

static Error expandShape(Step &step) {
  auto op = cast<tensor::ExpandShapeOp>(step.op);
  return reshape(step, resolve(step, op.getMixedOutputShape()));
}

static Error collapseShape(Step &step) {
  auto op = cast<tensor::CollapseShapeOp>(step.op);
  Shape shape;
  for (const ReassociationIndices &group : op.getReassociationIndices()) {
    int64_t size = 1;
    for (int64_t d : group)
      size *= step.operands[0].dim(d);
    shape.push_back(size);
  }
  return reshape(step, shape);
}

static Error reshapeTo(Step &step) {
  Shape shape;
  for (int64_t i = 0; i < step.operands[1].getNumElements(); ++i)
    shape.push_back(step.operands[1].intAt(i));
  return reshape(step, shape);
}

static Error bitcast(Step &step) {
  QUENCH_TRY(kind, resultKind(step));
  step.results.push_back(step.operands[0].bitcast(kind));
  return Error::success();
}

static Error same(Step &step) {
  step.results.push_back(std::move(step.operands[0]));
  return Error::success();
}

static Error constant(Step &step) {
  Attribute value;
  if (!matchPattern(step.op, m_Constant(&value)))
    return createStringError("a constant without a value");
  return give(step, constantTensor(value, step.op->getResult(0).getType()));
}

void quench::addTensorHandlers(Handlers &handlers) {
  const std::pair<StringRef, Handler> all[] = {
      {"arith.constant", constant},
      {"index.constant", constant},
      {"index.bool.constant", constant},
      {"tensor.empty", empty},
      {"tensor.dim", dim},
      {"tensor.rank", rank},
      {"tensor.cast", same},
      {"tensor.bitcast", bitcast},
      {"tensor.expand_shape", expandShape},
      {"tensor.collapse_shape", collapseShape},
      {"tensor.reshape", reshapeTo},
      {"tensor.extract_slice", extractSlice},
      {"tensor.insert_slice", insertSlice},
      {"tensor.concat", concat},
      {"tensor.extract", extract},
      {"tensor.insert", insert},
      {"tensor.from_elements", fromElements},
      {"tensor.splat", splat},
      {"tensor.generate", generate},
      {"tensor.yield", nullptr},
      {"tensor.pad", pad},
      {"tensor.gather", gather},
  };
  for (auto [name, handler] : all)
    if (handler)
      handlers[name] = handler;
}

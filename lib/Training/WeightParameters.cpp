//===- WeightParameters.cpp - What is continuous in codes -------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A weight is  f (b - s m):  f = e^(what its group's logarithm has moved), s
// the group's scale at the begin, m what its zero point has moved, and b what
// the codes stand for at the begin, or with a codebook  s times the sum of
// moved vectors.
//
//===----------------------------------------------------------------------===//

#include "Parameters.h"
#include "quench/Quantization/Codebook.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Packing.h"
#include "quench/Quantization/Parallel.h"
#include "quench/Quantization/Scales.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>

using namespace mlir;
using namespace quench;
using llvm::Error;
using llvm::Expected;

Expected<std::unique_ptr<WeightParameters>> WeightParameters::create(
    Value weight, std::shared_ptr<const PackedWeight> packed, int threads) {
  const Format &format = *packed->format;
  std::unique_ptr<WeightParameters> made(new WeightParameters);
  int64_t rows = packed->rows, cols = packed->cols;
  bool halves = format.hasScale() && format.scaleKind() == ScaleKind::Half;
  // What a second code says of some columns goes with the scales as they are.
  if (rows * cols == 0 || packed->outliers.format ||
      (!halves && !format.hasTensorScale()))
    return std::unique_ptr<WeightParameters>();
  made->value = weight;
  made->original = made->packed = packed;
  made->threads = threads;
  made->perRow = halves ? format.groupsPerRow(cols) : 0;
  made->group = format.group() == 0 ? cols : format.group();
  QUENCH_TRY(base, HostTensor::allocate(ElementKind::F32, {rows, cols}));
  decodeWeight(*packed, base.mutableData<float>(), threads);
  made->base = std::move(base);
  size_t groups = halves ? rows * made->perRow : 1;
  made->zeroAt = made->vectorAt = groups;
  if (format.tableBytes() || format.hasFloatZero()) {
    EncodedRows encoded =
        unpackWeight(format, packed->stream.data(), rows, cols);
    if (format.tableBytes())
      made->bound = format.bind(encoded.table);
    const AdditiveCodebook *book =
        made->bound ? made->bound->codebook() : nullptr;
    if (!halves || !book)
      made->bound.reset();
    if (made->bound || (halves && format.hasFloatZero()))
      for (size_t i = 0; i < groups; ++i)
        made->scales.push_back(format.scaleOf(encoded.params[i]) *
                               encoded.tensorScale);
    if (halves && format.hasFloatZero())
      made->vectorAt += groups;
    if (made->bound) {
      made->codes = std::move(encoded.codes);
      made->vectorUnit = rootMeanSquare(book->vectors());
    }
  }
  made->moves.assign(made->vectorAt + made->movedVectors().size(), 0);
  made->gradient = made->moves;
  made->adam = Adam(made->moves.size());
  // Factors for whole rows need the outputs only.
  made->byOutputs = made->perRow <= 1 && made->moves.size() == groups &&
                    llvm::all_of(weight.getUsers(), [](Operation *op) {
                      return isa<qn::LinearOp>(op);
                    });
  if (made->byOutputs)
    for (Operation *user : weight.getUsers())
      made->values.push_back(user->getResult(0));
  else
    made->values.push_back(weight);
  return made;
}

/// The vectors as they are now; none without a codebook.
std::vector<float> WeightParameters::movedVectors() const {
  if (!bound)
    return {};
  std::vector<float> vectors = bound->codebook()->vectors().vec();
  for (size_t i = 0; vectorAt + i < moves.size(); ++i)
    vectors[i] += moves[vectorAt + i] * vectorUnit;
  return vectors;
}

/// y = f (x W^T) + b: the gradient by log f is the sum of dy (y - b).
void WeightParameters::addOutputs(const HostTensor &y, const HostTensor &bias,
                                  const HostTensor &dy) {
  int64_t rows = packed->rows;
  std::vector<double> sums(rows, 0);
  for (int64_t t = 0, n = y.getNumElements() / rows; t < n; ++t) {
    const float *from = y.data<float>() + t * rows;
    const float *g = dy.data<float>() + t * rows;
    for (int64_t r = 0; r < rows; ++r)
      sums[r] += double(g[r]) * (from[r] - (bias ? bias.data<float>()[r] : 0));
  }
  for (int64_t r = 0; r < rows; ++r)
    gradient[perRow ? r : 0] += static_cast<float>(sums[r]);
}

/// The gradient by vectors: each codeword's adds to those of its sum.
void WeightParameters::addVectors(const float *dw) {
  const AdditiveCodebook &book = *bound->codebook();
  int64_t length = bound->codeLength(),
          words = codesPerRow(*bound, packed->cols);
  unsigned bits = llvm::Log2_64_Ceil(book.entries());
  std::vector<double> sums(moves.size() - vectorAt, 0);
  for (int64_t r = 0; r < packed->rows; ++r)
    for (int64_t word = 0; word < words; ++word) {
      int64_t first = word * length, at = groupOf(r, first);
      int64_t n = std::min(length, packed->cols - first);
      double factor =
          double(scales[at]) * std::exp(moves[at]) * bound->unit() * vectorUnit;
      for (int64_t t = 0; t < book.tables(); ++t) {
        uint32_t code = codes[r * words + word] >> (t * bits) &
                        (uint32_t(book.entries()) - 1);
        double *to = sums.data() + (t * book.entries() + code) * length;
        for (int64_t j = 0; j < n; ++j)
          to[j] += factor * dw[r * packed->cols + first + j];
      }
    }
  for (size_t i = 0; i < sums.size(); ++i)
    gradient[vectorAt + i] += static_cast<float>(sums[i]);
}

Error WeightParameters::add(GradientTape &tape, Value of,
                            const HostTensor &dValue) {
  int64_t rows = packed->rows, cols = packed->cols;
  if (byOutputs) {
    auto op = cast<qn::LinearOp>(of.getDefiningOp());
    QUENCH_TRY(held, tape.value(of));
    QUENCH_TRY(y, held.convertTo(ElementKind::F32));
    HostTensor bias;
    if (op.getBias()) {
      QUENCH_TRY(raw, tape.value(op.getBias()));
      QUENCH_TRY(floats, raw.convertTo(ElementKind::F32));
      bias = std::move(floats);
    }
    addOutputs(y, bias, dValue);
    return Error::success();
  }
  QUENCH_TRY(now, weight());
  const float *g = dValue.data<float>(), *w = now.data<float>();
  std::vector<double> ofRows(rows, 0);
  forEachIndex(rows, threads, [&](int64_t r) {
    for (int64_t c = 0; c < cols;) {
      int64_t at = groupOf(r, c),
              end = perRow ? std::min(cols, c + group) : cols;
      double along = 0, sum = 0;
      for (; c < end; ++c) {
        along += double(g[r * cols + c]) * w[r * cols + c];
        sum += g[r * cols + c];
      }
      if (perRow)
        gradient[at] += static_cast<float>(along);
      ofRows[r] = along;
      if (vectorAt > zeroAt)
        gradient[zeroAt + at] -=
            static_cast<float>(sum * scales[at] * std::exp(moves[at]));
    }
  });
  for (double sum : ofRows)
    if (!perRow)
      gradient[0] += static_cast<float>(sum);
  if (bound)
    addVectors(g);
  return Error::success();
}

void WeightParameters::step(double rate) {
  adam.step(moves, gradient, rate);
  std::fill(gradient.begin(), gradient.end(), 0.0f);
}

Expected<HostTensor> WeightParameters::weight() const {
  int64_t rows = packed->rows, cols = packed->cols;
  QUENCH_TRY(numbers, HostTensor::allocate(ElementKind::F32, {rows, cols}));
  std::unique_ptr<AdditiveCodebook> book;
  if (bound)
    book = std::make_unique<AdditiveCodebook>(
        bound->codebook()->tables(), bound->codebook()->entries(),
        bound->codeLength(), movedVectors());
  float *all = numbers.mutableData<float>();
  forEachIndex(rows, threads, [&](int64_t r) {
    float *to = all + r * cols;
    const float *from = base.data<float>() + r * cols;
    std::vector<float> sums;
    if (book) {
      int64_t length = bound->codeLength(), words = codesPerRow(*bound, cols);
      unsigned bits = llvm::Log2_64_Ceil(book->entries());
      std::vector<uint32_t> parts(book->tables());
      sums.resize(words * length);
      for (int64_t word = 0; word < words; ++word) {
        for (int64_t t = 0; t < book->tables(); ++t)
          parts[t] = codes[r * words + word] >> (t * bits) &
                     (uint32_t(book->entries()) - 1);
        book->sum(parts.data(), sums.data() + word * length);
      }
      for (int64_t c = 0; c < cols; ++c)
        sums[c] *= scales[groupOf(r, c)] * bound->unit();
      from = sums.data();
    }
    for (int64_t c = 0; c < cols;) {
      int64_t at = groupOf(r, c),
              end = perRow ? std::min(cols, c + group) : cols;
      float factor = std::exp(moves[at]);
      float shift = vectorAt > zeroAt ? scales[at] * moves[zeroAt + at] : 0;
      for (; c < end; ++c)
        to[c] = (from[c] - shift) * factor;
    }
  });
  return numbers;
}

Error WeightParameters::set(Interpreter &interpreter) {
  if (rounded) {
    interpreter.setWeight(value, rounded);
    return Error::success();
  }
  QUENCH_TRY(numbers, weight());
  interpreter.setWeight(value, std::move(numbers));
  return Error::success();
}

Error WeightParameters::round() {
  const Format &format = *original->format;
  int64_t rows = original->rows, cols = original->cols;
  EncodedRows encoded =
      unpackWeight(format, original->stream.data(), rows, cols);
  if (perRow == 0)
    encoded.tensorScale *= std::exp(moves[0]);
  for (size_t i = 0; perRow && i < zeroAt; ++i) {
    GroupParams &params = encoded.params[i];
    if (params.scale != 0)
      params.scale =
          format.roundScale(format.scaleOf(params) * std::exp(moves[i]));
    if (vectorAt > zeroAt)
      params.zero = floatToHalf(halfToFloat(params.zero) + moves[zeroAt + i]);
  }
  if (bound)
    encoded.table = bound->storeCodebook(movedVectors());
  auto bytes =
      std::make_shared<std::vector<uint8_t>>(packWeight(format, encoded));
  auto tuned = std::make_shared<PackedWeight>(*original);
  tuned->stream = *bytes;
  tuned->owner = bytes;
  tuned->note += tuned->note.empty() ? "tuned" : "; tuned";
  packed = tuned;
  QUENCH_TRY(numbers, HostTensor::allocate(ElementKind::F32, {rows, cols}));
  decodeWeight(*packed, numbers.mutableData<float>(), threads);
  rounded = std::move(numbers);
  return Error::success();
}

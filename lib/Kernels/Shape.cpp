//===- Shape.cpp - Geometry that all kernels of a weight share ------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Shape.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace quench;

KernelShape::KernelShape(const ContractSpec &spec)
    : spec(spec), format(*spec.format), layout(format.layout()),
      stream(format, spec.n, spec.k) {
  grouped = layout.groupColumns > 0;
  zero = format.hasZeroPoint();
  rowScales = !grouped && format.hasScale();
  stepQuads = layout.stepColumns / 4;
  blockSteps = layout.columns / layout.stepColumns;
  blockGroups = grouped ? layout.groupsPerBlock() : 1;
  groupQuads = grouped ? layout.quadsPerGroup() : layout.quads();
  groupSteps = std::max<int64_t>(1, groupQuads / stepQuads);
  groups = grouped ? stream.blocks * blockGroups : 1;
  tileRows = tileRowsOf(format, spec.integer, true);
  // A sum is shifted back at the end, so it must not have wrapped by then.
  inPlace = spec.k <= 65536;
}

int64_t KernelShape::stepStride() const {
  if (blockSteps == 1)
    return 0;
  return interleavedOffset(layout, 0, layout.stepOffsets[1]) -
         interleavedOffset(layout, 0, layout.stepOffsets[0]);
}

int64_t KernelShape::unrolledSteps() const {
  for (int64_t n = 4; n > 1; --n)
    if (groupSteps % n == 0)
      return n;
  return 1;
}

int64_t quench::tileRowsOf(const Format &format, bool integer, bool tiled) {
  if (!tiled)
    return 1;
  // Two sums for each row (of the group, of all groups) fill the registers.
  bool twoSums = integer ? format.layout().groupColumns > 0 : format.hasScale();
  return twoSums ? 4 : 8;
}

std::string quench::symbolOf(StringRef spec) {
  std::string name;
  for (char c : spec)
    if (llvm::isAlnum(c))
      name += c;
    else if (c != ' ' && c != '>' && !name.empty() && name.back() != '_')
      name += '_';
  return name;
}

std::string quench::kernelName(StringRef kind, const ContractSpec &spec) {
  std::string name = (kind + "_" + symbolOf(spec.format->spec()) + "_" +
                      Twine(spec.n) + "x" + Twine(spec.k))
                         .str();
  if (spec.integer)
    name += "_a8";
  if (spec.prefetch)
    name += "_pf";
  if (spec.accumulate)
    name += "_acc";
  return name;
}

void quench::storeRows(Emitter &e, const ContractSpec &spec, Value value,
                       Value y, Value at, Value row) {
  if (spec.n % kPassRows == 0) {
    if (spec.accumulate)
      value = e.addFloat(value, e.loadVector(y, at, e.floats));
    e.storeVector(value, y, at);
    return;
  }
  Value left = arith::SubIOp::create(e.b, e.loc, e.index(spec.n), row);
  auto type = VectorType::get({kBlockRows}, e.b.getI1Type());
  Value mask = vector::CreateMaskOp::create(e.b, e.loc, type, ValueRange{left});
  if (spec.accumulate) {
    Value old = vector::MaskedLoadOp::create(
        e.b, e.loc, e.floats, y, ValueRange{at}, mask, e.splatFloat(0));
    value = e.addFloat(value, old);
  }
  vector::MaskedStoreOp::create(e.b, e.loc, y, ValueRange{at}, mask, value);
}

Value quench::passOffset(Emitter &e, const StreamShape &stream, Value pass) {
  if (stream.sharedPasses == 1)
    return e.mul(pass, stream.passBytes);
  Value count = e.index(stream.sharedPasses);
  Value first = arith::DivUIOp::create(e.b, e.loc, pass, count);
  Value in = arith::RemUIOp::create(e.b, e.loc, pass, count);
  return e.add(e.mul(first, stream.sharedPasses * stream.passBytes),
               e.mul(in, stream.sharedOffset));
}

Value quench::passBase(Emitter &e, const KernelShape &s, Value wOffset,
                       Value pass) {
  Value base = e.add(wOffset, passOffset(e, s.stream, pass));
  return s.stream.headerBytes ? e.add(base, s.stream.headerBytes) : base;
}

Value quench::tableOf(Emitter &e, const KernelShape &s, Value wOffset) {
  return s.stream.tableOffset ? e.add(wOffset, s.stream.tableOffset) : wOffset;
}

Value quench::loadRowScales(Emitter &e, const KernelShape &s, Value w,
                            Value base, int64_t h) {
  int64_t at = s.stream.rowScaleOffset + h * s.stream.rowScaleStride;
  return e.loadHalves(w, e.add(base, at));
}

Value quench::loadGroupScales(Emitter &e, const KernelShape &s, Value w,
                              Value base, int64_t g, int64_t h) {
  int64_t at = interleavedOffset(s.layout, h, s.layout.scaleOffset(g));
  return e.loadScales(w, e.add(base, at), s.format.scaleKind());
}

Value quench::loadZeros(Emitter &e, const KernelShape &s, Value w, Value base,
                        int64_t g, int64_t h) {
  bool isFloat = s.format.hasFloatZero();
  int64_t at =
      s.grouped ? interleavedOffset(s.layout, h, s.layout.zeroOffset(g))
                : s.stream.rowZeroOffset + h * (isFloat ? 2 : 1) * kBlockRows;
  return isFloat ? e.loadHalves(w, e.add(base, at))
                 : e.loadByteWords(w, e.add(base, at));
}

Value quench::unitScale(Emitter &e, const Format &format, Value w,
                        Value offset) {
  Value unit;
  if (float factor = format.unit() * scaleFactor(format.scaleKind());
      factor != 1.0f)
    unit = e.scalarFloat(factor);
  if (!format.hasTensorScale())
    return unit;
  Value bytes = e.loadVector(w, offset, VectorType::get({4}, e.b.getI8Type()));
  Value word = e.bitcast(bytes, VectorType::get({1}, e.b.getF32Type()));
  Value scale =
      vector::ExtractOp::create(e.b, e.loc, word, ArrayRef<int64_t>{0});
  return unit ? e.mulFloat(scale, unit) : scale;
}

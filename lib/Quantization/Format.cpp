//===- Format.cpp - Defaults of formats -----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/Format.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"
#include "quench/Quantization/Packing.h"
#include <cmath>

using namespace quench;

RegisterBuilder::~RegisterBuilder() = default;
Format::~Format() = default;

int64_t Format::groupsPerRow(int64_t cols) const {
  if (!hasScale())
    return 0;
  return group() == 0 ? 1 : (cols + group() - 1) / group();
}

int64_t Format::bits(int64_t rows, int64_t cols) const {
  int64_t whole = group() == 0 ? 0 : cols / group();
  int64_t rest = cols - whole * group(), length = codeLength();
  int64_t codes = (rest + length - 1) / length;
  if (whole)
    codes += whole * ((group() + length - 1) / length);
  int64_t groupBits = 0;
  if (hasScale())
    groupBits = scaleBits(scaleKind());
  if (hasScale() && hasZeroPoint())
    groupBits += hasFloatZero() ? 16 : 8;
  int64_t shared = (hasTensorScale() ? 32 : 0) + 8 * tableBytes();
  unsigned own = codeBits() - codedField().bits;
  return shared + rows * (codes * own + groupsPerRow(cols) * groupBits) +
         typicalFieldBits(rows, cols);
}

int64_t Format::typicalFieldBits(int64_t rows, int64_t cols) const {
  return codedField().bits == 0 ? 0 : rows * cols * 13 / 5;
}

std::unique_ptr<Format> Format::bind(llvm::ArrayRef<uint8_t>) const {
  return nullptr;
}

float Format::fitTensor(const float *, int64_t, const FitOptions &) const {
  return 1.0f;
}

std::vector<uint8_t> Format::fitTable(const float *, int64_t, int64_t,
                                      const FitOptions &) const {
  return {};
}

void Format::nearestTile(const float *values, const GroupParams *params,
                         const float *, uint32_t *codes) const {
  nearestAll(values, 1, params ? *params : GroupParams(), codes);
}

void Format::nearestTileIn(const float *, const float *values,
                           const GroupParams *params, const float *weights,
                           uint32_t *codes) const {
  nearestTile(values, params, weights, codes);
}

void Format::decodeTile(const uint32_t *codes, const GroupParams *params,
                        float *values) const {
  decode(*codes, params ? *params : GroupParams(), values);
}

uint16_t Format::roundScale(float scale) const {
  ScaleKind kind = group() == 0 ? ScaleKind::Half : scaleKind();
  uint16_t code = floatToScale(kind, std::fabs(scale));
  return kind == ScaleKind::Half && std::signbit(scale) ? code | 0x8000 : code;
}

const AdditiveCodebook *Format::codebook() const { return nullptr; }

std::vector<uint8_t> Format::storeCodebook(llvm::ArrayRef<float>) const {
  return {};
}

void Format::nearestAll(const float *values, int64_t count, GroupParams params,
                        uint32_t *codes) const {
  for (int64_t i = 0, length = codeLength(); i < count; ++i)
    codes[i] = nearest(values + i * length, params);
}

void Format::decodeStep(RegisterBuilder &, int64_t, bool,
                        llvm::SmallVectorImpl<Plane> &) const {}

void Format::decodeFloatStep(RegisterBuilder &builder, int64_t offset,
                             llvm::SmallVectorImpl<FloatPlane> &planes) const {
  llvm::SmallVector<Plane, 16> integers;
  decodeStep(builder, offset, /*inPlace=*/false, integers);
  planesToFloats(builder, integers, bias(), planes);
}

void Format::decodePlanes(RegisterBuilder &builder, bool inPlace,
                          llvm::SmallVectorImpl<Plane> &planes) const {
  unsigned quad = 0;
  for (int64_t offset : layout().stepOffsets) {
    size_t first = planes.size();
    decodeStep(builder, offset, inPlace, planes);
    for (Plane &plane : llvm::MutableArrayRef<Plane>(planes).drop_front(first))
      plane.quad += quad;
    quad += layout().stepColumns / 4;
  }
}

void Format::decodeFloats(RegisterBuilder &builder,
                          llvm::SmallVectorImpl<FloatPlane> &planes) const {
  unsigned column = 0;
  for (int64_t offset : layout().stepOffsets) {
    size_t first = planes.size();
    decodeFloatStep(builder, offset, planes);
    for (FloatPlane &plane :
         llvm::MutableArrayRef<FloatPlane>(planes).drop_front(first))
      plane.column += column;
    column += layout().stepColumns;
  }
}

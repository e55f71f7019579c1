//===- Layout.cpp - Layouts of packed blocks ------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/Layout.h"
#include "llvm/Support/MathExtras.h"
#include <array>
#include <cmath>
#include <optional>

using namespace quench;

/// Adds the codes of `count` steps from byte `offset` on.
static void addSteps(BlockLayout &layout, const StepLayout &step,
                     int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    layout.stepOffsets.push_back(layout.bytes + i * step.bytes);
  layout.parts.push_back({layout.bytes, count * step.bytes, step.unit});
  layout.bytes += count * step.bytes;
}

static void addPart(BlockLayout &layout, int64_t length, int64_t unit) {
  layout.parts.push_back({layout.bytes, length, unit});
  layout.bytes += length;
}

/// Adds a scale or zero component whose digits follow `offsets`.
static void addParams(BlockLayout &layout, llvm::StringRef name, unsigned bits,
                      llvm::ArrayRef<int64_t> offsets) {
  if (offsets.empty())
    return;
  Component component{name.str(), bits, offsets[0], {}, 0};
  component.digits.push_back({'r', kBlockRows, 1, bits});
  if (offsets.size() > 1)
    component.digits.push_back({'k', static_cast<int64_t>(offsets.size()),
                                layout.groupColumns,
                                8 * (offsets[1] - offsets[0])});
  layout.components.push_back(std::move(component));
}

BlockLayout quench::makeBlockLayout(const StepLayout &step, int64_t group,
                                    unsigned zeroBytes, unsigned scaleBytes) {
  BlockLayout layout;
  layout.codeStride = step.codeStride;
  layout.sharedPasses = step.sharedPasses;
  layout.stepColumns = step.columns;
  // Of the 16 rows of a group.
  int64_t scaleSize = scaleBytes * kBlockRows,
          zeroSize = zeroBytes * kBlockRows;

  int64_t steps = 1, groups = 1, pairStride = 0;
  if (group == 0) {
    groups = 0;
    addSteps(layout, step, 1);
  } else if (group <= step.columns) {
    int64_t padded = step.groupUnit;
    while (padded < group)
      padded *= 2;
    layout.groupColumns = std::min(padded, step.columns);
    groups = step.columns / layout.groupColumns;
  } else {
    layout.groupColumns = llvm::alignTo(group, step.columns);
    steps = layout.groupColumns / step.columns;
  }

  // The bytes of a group may leave half a line empty.
  bool pair =
      groups == 1 && (scaleBytes == 1) != (zeroBytes == 1) && steps <= 2;
  auto addAll = [&](llvm::SmallVectorImpl<int64_t> &offsets, int64_t count,
                    int64_t size) {
    for (int64_t g = 0; g < count; ++g)
      offsets.push_back(layout.bytes + g * size);
    // Row blocks come in pairs: each takes whole halves of lines.
    int64_t length = count * size;
    bool isHalf = length % 32 != 0 && scaleBytes + zeroBytes != 2;
    addPart(layout, isHalf ? llvm::alignTo(length, 32) : length, size);
  };
  if (group != 0 && scaleBytes == 1) {
    if (pair)
      pairStride = steps * step.bytes;
    addSteps(layout, step, (pair ? 2 : 1) * steps);
    addAll(layout.scaleOffsets, pair ? 2 : groups, scaleSize);
    if (zeroBytes)
      addAll(layout.zeroOffsets, pair ? 2 : groups, zeroSize);
  } else if (group != 0) {
    for (int64_t run = 0; run < (pair ? 2 : 1); ++run) {
      if (run == 1)
        pairStride = layout.bytes;
      addSteps(layout, step, steps);
      addAll(layout.scaleOffsets, groups, scaleSize);
      if (zeroBytes && run == 0)
        addAll(layout.zeroOffsets, pair ? 2 : groups, zeroSize);
    }
  }
  int64_t runs = pair ? 2 : 1;
  layout.columns = runs * steps * step.columns;

  for (const Component &part : step.components) {
    Component component = part;
    if (steps > 1)
      component.digits.push_back({'k', steps, step.columns, 8 * step.bytes});
    if (pair)
      component.digits.push_back({'k', 2, layout.groupColumns, 8 * pairStride});
    layout.components.push_back(std::move(component));
  }
  addParams(layout, "scale", 8 * scaleBytes, layout.scaleOffsets);
  addParams(layout, "zero", 8 * zeroBytes, layout.zeroOffsets);

  if (!step.xOrder.empty())
    for (int64_t first = 0; first < layout.columns; first += step.columns)
      for (uint16_t column : step.xOrder)
        layout.xOrder.push_back(first + column);
  return layout;
}

/// Widths of the parts of a code of `bits` bits, widest first.
static llvm::SmallVector<unsigned, 4> partWidths(unsigned bits) {
  llvm::SmallVector<unsigned, 4> widths;
  for (unsigned width : {8u, 4u, 2u, 1u})
    if (bits & width)
      widths.push_back(width);
  return widths;
}

StepLayout quench::bitStepLayout(unsigned bits) {
  StepLayout step;
  unsigned shift = 0;
  for (unsigned width : partWidths(bits)) {
    Component part{"code", width, step.bytes, {}, shift};
    if (width != bits)
      part.name += "[" + std::to_string(shift) + ":" +
                   std::to_string(shift + width - 1) + "]";
    part.digits.push_back({'r', kBlockRows, 1, 32});
    part.digits.push_back({'k', 4, 1, 8});
    int64_t perLine = 8 / width, lines = width;
    if (perLine > 1)
      part.digits.push_back({'k', perLine, 4, width});
    if (lines > 1)
      part.digits.push_back({'k', lines, 4 * perLine, 512});
    step.components.push_back(std::move(part));
    step.bytes += 64 * lines;
    shift += width;
  }
  return step;
}

void quench::decodeBitStep(RegisterBuilder &builder, int64_t offset,
                           unsigned bits, unsigned up, bool inPlace,
                           llvm::SmallVectorImpl<Plane> &planes) {
  llvm::SmallVector<unsigned, 4> widths = partWidths(bits);
  unsigned top = (1u << bits) - 1;
  if (widths.size() == 1) {
    unsigned perLine = 8 / bits;
    for (unsigned line = 0; line < bits; ++line) {
      Reg value = builder.load(offset + 64 * line);
      for (unsigned i = 0; i < perLine; ++i) {
        // A code that must be doubled fits its own place from bit 1 on.
        unsigned off = i * bits, at = inPlace ? std::max(off, up) : up;
        Reg field = bits == 8 && at == off
                        ? value
                        : builder.field(value, off, bits, at);
        planes.push_back({field, line * perLine + i, at - up, top << at});
      }
    }
    return;
  }
  // Each quad is put together of its parts; a line is loaded once.
  Reg quads[8];
  unsigned shift = 0;
  for (unsigned width : widths) {
    unsigned perLine = 8 / width;
    for (unsigned line = 0; line < width; ++line) {
      Reg value = builder.load(offset + 64 * line);
      for (unsigned i = 0; i < perLine; ++i) {
        Reg field = builder.field(value, i * width, width, shift + up);
        Reg &quad = quads[line * perLine + i];
        quad = shift == 0 ? field : builder.bitOr(quad, field);
      }
    }
    offset += 64 * width;
    shift += width;
  }
  for (unsigned quad = 0; quad < 8; ++quad)
    planes.push_back({quads[quad], quad, 0, top << up});
}

void quench::planesToFloats(RegisterBuilder &builder,
                            llvm::ArrayRef<Plane> planes, float bias,
                            llvm::SmallVectorImpl<FloatPlane> &floats) {
  for (const Plane &plane : planes)
    for (unsigned column = 0; column < 4; ++column)
      floats.push_back({builder.toFloats(plane.value, column, bias),
                        4 * plane.quad + column});
}

float quench::maxMagnitude(const float *values, int64_t n) {
  float most[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int lane = 0; lane < 8; ++lane) {
      float magnitude = std::fabs(values[i + lane]);
      most[lane] = magnitude > most[lane] ? magnitude : most[lane];
    }
  for (; i < n; ++i)
    if (float magnitude = std::fabs(values[i]); magnitude > most[0])
      most[0] = magnitude;
  for (float value : most)
    most[0] = value > most[0] ? value : most[0];
  return most[0];
}

float quench::meanMagnitude(const float *values, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    if (!std::isnan(values[i]))
      sum += std::fabs(values[i]);
  return n == 0 ? 0 : sum / n;
}

Reg quench::permuteLines(RegisterBuilder &builder, llvm::ArrayRef<Reg> lines,
                         llvm::ArrayRef<int64_t> places) {
  std::optional<Reg> result;
  for (size_t line = 0; line < lines.size(); ++line) {
    std::array<uint8_t, 64> order;
    bool isUsed = false;
    for (size_t i = 0; i < 64; ++i) {
      bool isHere = places[i] / 64 == int64_t(line);
      isUsed |= isHere;
      order[i] = (isHere ? places[i] % 64 : i) + (result && isHere ? 64 : 0);
    }
    if (!isUsed)
      continue;
    result = result ? builder.permute(*result, lines[line], order)
                    : builder.permute(lines[line], order);
  }
  return *result;
}

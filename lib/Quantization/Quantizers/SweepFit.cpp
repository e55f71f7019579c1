//===- SweepFit.cpp - Scales of rows that are coded -----------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Quantizers/Gemm.h"
#include "Quantizers/Sweep.h"
#include <cmath>

using namespace quench;

/// Codewords of a group whose errors are looked at when scales are compared.
static constexpr int64_t kSampledWords = 64;

//===----------------------------------------------------------------------===//
// Before there are codes
//===----------------------------------------------------------------------===//

/// Sum of the weighted squared errors of (some codewords of) a group.
double RowSweep::groupError(const float *values, const float *weights,
                            int64_t n, GroupParams params) const {
  double sum = 0;
  if (format.codeLength() == 1) {
    std::vector<uint32_t> groupCodes(n);
    format.nearestAll(values, n, params, groupCodes.data());
    for (int64_t i = 0; i < n; ++i) {
      float value;
      format.decode(groupCodes[i], params, &value);
      double miss = values[i] - value;
      sum += weights[i] * miss * miss;
    }
    return sum;
  }
  int64_t length = format.codeLength();
  bool whole = n == (format.group() == 0 ? cols : format.group());
  const std::vector<int32_t> &columns = whole ? groupColumns : restColumns;
  int64_t count = columns.size() / length;
  int64_t stride = std::max<int64_t>(1, count / kSampledWords);
  std::vector<float> gathered(length), result(length);
  for (int64_t code = 0; code < count; code += stride) {
    const int32_t *at = columns.data() + code * length;
    for (int64_t i = 0; i < length; ++i)
      gathered[i] = at[i] < 0 ? 0.0f : values[at[i]];
    format.decode(format.nearest(gathered.data(), params), params,
                  result.data());
    for (int64_t i = 0; i < length; ++i)
      if (at[i] >= 0) {
        double miss = gathered[i] - result[i];
        sum += weights[at[i]] * miss * miss;
      }
  }
  return sum;
}

/// Scale and zero point for the values of a group, by column.
GroupParams RowSweep::fitGroup(const float *values, const float *weights,
                               int64_t n) const {
  std::vector<float> scaled;
  const float *fitted = values;
  if (options.scale != 1) {
    scaled.assign(values, values + n);
    for (float &value : scaled)
      value *= options.scale;
    fitted = scaled.data();
  }
  FitOptions fit;
  fit.search = options.search;
  GroupParams best = format.fit(fitted, n, fit);
  if (!options.search || format.hasTiles() || format.scaleOf(best) == 0)
    return best;

  // From there downhill with the weights of the values, in shrinking steps.
  double least = groupError(values, weights, n, best);
  auto attempt = [&](GroupParams candidate) {
    if (candidate.scale == best.scale && candidate.zero == best.zero)
      return false;
    double error = groupError(values, weights, n, candidate);
    if (!(error < least))
      return false;
    least = error;
    best = candidate;
    return true;
  };
  for (float step : {1.06f, 1.02f})
    for (float factor : {step, 1 / step})
      for (int i = 0; i < 4; ++i) {
        GroupParams candidate = best;
        candidate.scale = format.roundScale(format.scaleOf(best) * factor);
        if (!attempt(candidate))
          break;
      }
  if (format.hasZeroPoint() && !format.hasFloatZero())
    for (int step : {-1, 1}) {
      GroupParams candidate = best;
      int zero = int(best.zero) + step;
      if (zero < 0 || zero >= 1 << format.codeBits())
        continue;
      candidate.zero = zero;
      attempt(candidate);
    }
  return best;
}

/// Fits all groups to the weights themselves.
void RowSweep::fitRows(const Feedback &feedback) {
  int64_t group = feedback.plan.columnsPerGroup;
  std::vector<float> values(cols), counts(cols);
  for (int64_t place = 0; place < cols; ++place)
    counts[order[place]] = feedback.weights[place];
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t place = 0; place < cols; ++place)
      values[order[place]] = *at(weights, row, place);
    for (int64_t g = 0; g < groups; ++g)
      paramsOf(row, g) =
          fitGroup(values.data() + g * group, counts.data() + g * group,
                   std::min(group, cols - g * group));
  }
}

/// Fits the group that begins with `block` to its present targets.
void RowSweep::fitWholeGroup(const Spot &spot, int64_t block) {
  const CodePlan &plan = spot.feedback.plan;
  int64_t group = plan.blocks[block].group, place = plan.blocks[block].place;
  int64_t firstColumn = group * plan.columnsPerGroup;
  int64_t n = std::min(plan.columnsPerGroup, cols - firstColumn);
  std::vector<float> values(n), counts(n);
  const float *goal = target(spot, place);
  for (int64_t i = 0; i < n; ++i) {
    int64_t column = order[place + i] - firstColumn;
    values[column] = goal[i];
    counts[column] = spot.feedback.weights[place + i];
  }
  paramsOf(spot.row, group) = fitGroup(values.data(), counts.data(), n);
}

//===----------------------------------------------------------------------===//
// With codes at hand
//===----------------------------------------------------------------------===//

/// With w^ = s l - t, l the levels and t = s z, a change (x1, x2) of (s, t)
/// lowers the loss by 2 (c, x) - (x, A x), A = [a0 a1; a1 a2]. Takes the best
/// params that can be stored; false if they do not lower it. Without real zero
/// points t stays 0 (l is then the level less the zero point).
bool RowSweep::bestParams(const double a[3], const double c[2],
                          GroupParams &params) const {
  double scale = format.scaleOf(params), offset = 0;
  double x1 = a[0] > 0 ? c[0] / a[0] : 0, x2 = 0;
  if (format.hasFloatZero()) {
    offset = scale * halfToFloat(params.zero);
    double det = a[0] * a[2] - a[1] * a[1];
    if (det > 1e-9 * a[0] * a[2]) {
      x1 = (c[0] * a[2] - c[1] * a[1]) / det;
      x2 = (c[1] * a[0] - c[0] * a[1]) / det;
    }
  }
  GroupParams next = params;
  next.scale = format.roundScale(static_cast<float>(scale + x1));
  double stored = format.scaleOf(next);
  if (stored == 0 || !std::isfinite(stored))
    return false;
  if (format.hasFloatZero())
    next.zero = floatToHalf(static_cast<float>((offset + x2) / stored));
  x1 = stored - scale;
  x2 = format.hasFloatZero() ? stored * halfToFloat(next.zero) - offset : 0;
  double gain = 2 * (c[0] * x1 + c[1] * x2) -
                (a[0] * x1 * x1 + 2 * a[1] * x1 * x2 + a[2] * x2 * x2);
  if (!(gain > 0) || !std::isfinite(gain))
    return false;
  params = next;
  return true;
}

/// What the codes of some blocks of a row stand for, by place from that of
/// firstBlock on; `levelsOnly`: at scale 1, and zero point 0 if it is real.
void RowSweep::decodePlaces(const CodePlan &plan, int64_t row, bool levelsOnly,
                            int64_t firstBlock, int64_t endBlock,
                            float *values) {
  for (int64_t b = firstBlock; b < endBlock; ++b) {
    const CodeBlock &block = plan.blocks[b];
    GroupParams used = groups == 0 ? GroupParams() : paramsOf(row, block.group);
    if (levelsOnly) {
      used.scale = format.roundScale(1.0f);
      if (format.hasFloatZero())
        used.zero = 0;
    }
    format.decode(codes[row * perRow + block.code], used, decoded.data());
    values = std::copy_n(decoded.data(), block.width, values);
  }
}

/// The group that begins with block `firstBlock`.
void RowSweep::refitGroup(const Spot &spot, int64_t firstBlock) {
  const CodePlan &plan = spot.feedback.plan;
  const CodeBatch &batch = spot.batch();
  int64_t group = plan.blocks[firstBlock].group, endBlock = firstBlock;
  while (endBlock < batch.endBlock && plan.blocks[endBlock].group == group)
    ++endBlock;
  int64_t place = plan.blocks[firstBlock].place;
  int64_t n = plan.blocks[endBlock - 1].end() - place;
  int64_t inBatch = place - batch.place;
  const float *moments = spot.feedback.moments[spot.batchIndex].data() +
                         inBatch * (batch.width + 1);
  const float *goal = target(spot, place);
  const float *weight = at(weights, spot.row, place);
  float *error = at(errors, spot.row, place);

  std::vector<float> level(n);
  decodePlaces(plan, spot.row, true, firstBlock, endBlock, level.data());
  // (E H) of the group: the pull of the other errors on a block lies in its
  // target.
  double a[3] = {}, c[2] = {};
  for (int64_t b = firstBlock; b < endBlock; ++b) {
    const CodeBlock &block = plan.blocks[b];
    for (int64_t j = block.place - place; j < block.end() - place; ++j) {
      double pull = 0;
      for (int64_t i = block.place - place; i < block.end() - place; ++i)
        pull += double(goal[i] - weight[i] + error[i]) *
                moments[i * batch.width + j];
      c[0] += pull * level[j];
      c[1] -= pull;
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    float product = 0, sum = 0;
    for (int64_t j = 0; j < n; ++j) {
      product += moments[i * batch.width + j] * level[j];
      sum += moments[i * batch.width + j];
    }
    a[0] += double(product) * level[i];
    a[1] -= product;
    a[2] += sum;
  }
  if (!bestParams(a, c, paramsOf(spot.row, group)))
    return;
  decodePlaces(plan, spot.row, false, firstBlock, endBlock, level.data());
  for (int64_t i = 0; i < n; ++i) {
    float now = weight[i] - level[i];
    level[i] = now - error[i];
    error[i] = now;
  }
  for (int64_t b = firstBlock; b < endBlock; ++b)
    push(spot, place, plan.blocks[b],
         level.data() + plan.blocks[b].place - place);
}

/// decodePlaces of all rows, [rows][cols].
void RowSweep::decodeAll(const CodePlan &plan, bool levelsOnly,
                         std::vector<float> &values) {
  if (!format.hasTiles()) {
    int64_t last = plan.blocks.size();
    for (int64_t row = 0; row < rows; ++row)
      decodePlaces(plan, row, levelsOnly, 0, last, values.data() + row * cols);
    return;
  }
  std::vector<GroupParams> used(params);
  for (GroupParams &each : used)
    if (levelsOnly)
      each = {format.roundScale(1.0f),
              format.hasFloatZero() ? uint16_t(0) : each.zero};
  int64_t tileRows = format.tileRows(), tileColumns = format.tileColumns();
  for (int64_t row = 0; row < rows; row += tileRows)
    for (const CodeBlock &block : plan.blocks) {
      for (int64_t r = 0; r < tileRows; ++r)
        std::copy_n(codes.data() + (row + r) * perRow + block.code, tileColumns,
                    tileCodes.data() + r * tileColumns);
      format.decodeTile(tileCodes.data(), used.empty() ? nullptr : &used[row],
                        decoded.data());
      for (int64_t r = 0; r < std::min(tileRows, rows - row); ++r)
        std::copy_n(decoded.data() + r * tileColumns, block.width,
                    values.data() + (row + r) * cols + block.place);
    }
}

/// `level` holds the levels l of all rows, and room for one row more.
std::vector<RowSweep::RowSums> RowSweep::rowSums(const Feedback &feedback,
                                                 std::vector<float> &level) {
  // A last row of ones gives (1 H).
  int64_t count = rows + 1;
  std::fill(level.begin() + rows * cols, level.end(), 1.0f);
  std::vector<RowSums> sums(rows);
  std::vector<float> product(count * feedback.plan.widestBatch), turned(count);
  for (auto [index, batch] : llvm::enumerate(feedback.plan.batches)) {
    int64_t width = batch.width;
    for (int64_t row = 0; row < count; ++row)
      std::copy_n(level.data() + row * cols + batch.place, width,
                  product.data() + row * width);
    multiplyAdd(product.data(), width, level.data(), cols,
                feedback.panels[index].data(), width, count, width, cols);
    const float *moments = feedback.moments[index].data();
    for (int64_t b = batch.firstBlock; b < batch.endBlock; ++b) {
      const CodeBlock &block = feedback.plan.blocks[b];
      int64_t from = block.place - batch.place;
      for (int64_t j = from; j < from + block.width; ++j) {
        for (int64_t row = 0; row < count; ++row) {
          float sum = 0;
          for (int64_t i = from; i < from + block.width; ++i)
            sum += product[row * width + i] * moments[i * width + j];
          turned[row] = sum;
        }
        for (int64_t row = 0; row < rows; ++row) {
          float error = *at(errors, row, batch.place + j);
          RowSums &to = sums[row];
          to.a[0] += double(turned[row]) * level[row * cols + batch.place + j];
          to.a[1] -= turned[row];
          to.a[2] += turned[rows];
          to.c[0] += double(turned[row]) * error;
          to.c[1] -= double(turned[rows]) * error;
        }
      }
    }
  }
  return sums;
}

/// Rows with one scale.
void RowSweep::refitRows(const Feedback &feedback) {
  std::vector<float> level((rows + 1) * cols);
  decodeAll(feedback.plan, /*levelsOnly=*/true, level);
  std::vector<RowSums> sums = rowSums(feedback, level);
  std::vector<bool> changed(rows);
  for (int64_t row = 0; row < rows; ++row)
    changed[row] = bestParams(sums[row].a, sums[row].c, paramsOf(row, 0));
  decodeAll(feedback.plan, /*levelsOnly=*/false, level);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t place = 0; changed[row] && place < cols; ++place)
      *at(errors, row, place) =
          *at(weights, row, place) - level[row * cols + place];
}

RowSweep::ScaleSums RowSweep::scaleSums(const Feedback &feedback) {
  reorder(feedback.plan);
  std::vector<float> level((rows + 1) * cols);
  decodeAll(feedback.plan, /*levelsOnly=*/false, level);
  ScaleSums total;
  for (const RowSums &sums : rowSums(feedback, level)) {
    total.gain += sums.c[0];
    total.cost += sums.a[0];
  }
  return total;
}

//===- Sweep.cpp - Coding rows with feedback ------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Quantizers/Sweep.h"
#include "Quantizers/Gemm.h"
#include <cmath>

using namespace quench;

LevelTable::LevelTable(const Format &format) {
  GroupParams unit{format.roundScale(1.0f), 0};
  for (uint32_t code = 0; code < 1u << format.codeBits(); ++code) {
    float level;
    format.decode(code, unit, &level);
    levels.push_back({level, code});
  }
  std::sort(levels.begin(), levels.end());
}

RowSweep::RowSweep(const Format &format, const float *weight, int64_t first,
                   int64_t rows, int64_t cols, float tensorScale,
                   const SweepOptions &options, const LevelTable *levels)
    : format(format), first(first), rows(rows), cols(cols),
      codedRowCount(codedRows(format, rows)), perRow(codesPerRow(format, cols)),
      groups(format.groupsPerRow(cols)), options(options), levels(levels),
      order(cols), weights(rows * cols), errors(rows * cols),
      codes(codedRowCount * perRow), params(codedRowCount * groups) {
  for (int64_t i = 0; i < cols; ++i)
    order[i] = i;
  const float *from = weight + first * cols;
  for (int64_t i = 0; i < rows * cols; ++i)
    weights[i] = std::isfinite(from[i]) ? from[i] / tensorScale : 0.0f;
  int64_t tile = format.tileRows() * format.tileColumns();
  tileCodes.resize(tile);
  if (!format.hasTiles()) {
    int64_t group = format.group() == 0 ? cols : format.group();
    groupColumns = codeColumns(format, std::min(group, cols));
    restColumns = codeColumns(format, cols % group);
  }
  realRows.resize(format.tileRows());
  word.resize(tile);
  decoded.resize(tile);
}

void RowSweep::reorder(const CodePlan &plan) {
  if (order == plan.order)
    return;
  std::vector<float> natural(cols);
  for (std::vector<float> *matrix : {&weights, &errors, &shifts})
    for (int64_t row = 0; row < rows && !matrix->empty(); ++row) {
      float *values = at(*matrix, row, 0);
      for (int64_t place = 0; place < cols; ++place)
        natural[order[place]] = values[place];
      for (int64_t place = 0; place < cols; ++place)
        values[place] = natural[plan.order[place]];
    }
  order = plan.order;
}

//===----------------------------------------------------------------------===//
// Other rows
//===----------------------------------------------------------------------===//

void RowSweep::couple(RowCoupling &others, bool whole) {
  coupling = &others;
  tellsWhole = whole;
  shifts.resize(rows * cols);
}

/// What rows of other chunks add to the weights of a batch.
void RowSweep::receive(const CodeBatch &batch) {
  coupling->await(first, batch.end());
  coupling->feed(first, rows, 0, first, batch.place, batch.width,
                 at(shifts, 0, batch.place), cols);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < batch.width; ++i)
      at(weights, row, batch.place)[i] += at(shifts, row, batch.place)[i];
}

/// What rows of this chunk add to some places of others.
void RowSweep::receive(const Spot &spot, int64_t height, int64_t place,
                       int64_t width) {
  if (spot.row == 0)
    return;
  std::vector<float> more(height * width);
  coupling->feed(first + spot.row, height, first, first + spot.row, place,
                 width, more.data(), width);
  for (int64_t r = 0; r < height; ++r)
    for (int64_t i = 0; i < width; ++i) {
      float add = more[r * width + i];
      at(shifts, spot.row + r, place)[i] += add;
      at(weights, spot.row + r, place)[i] += add;
      target({spot.feedback, spot.batchIndex, spot.row + r}, place)[i] += add;
    }
}

/// The errors of some places, of the weights as they were given.
void RowSweep::tell(int64_t row, int64_t count, int64_t place, int64_t width) {
  for (int64_t r = row; r < row + count; ++r)
    for (int64_t i = place; i < place + width; ++i)
      coupling->errors(first + r)[i] =
          errors[r * cols + i] - shifts[r * cols + i];
}

void RowSweep::publish(const Feedback &feedback) {
  reorder(feedback.plan);
  tell(0, rows, 0, cols);
  coupling->publish(first, cols);
}

/// The targets of a batch, but for the errors that blocks of it will make.
void RowSweep::startBatch(const Feedback &feedback, int64_t index) {
  const CodeBatch &batch = feedback.plan.batches[index];
  for (int64_t row = 0; row < rows; ++row)
    std::copy_n(at(weights, row, batch.place), batch.width,
                targets.data() + row * batch.width);
  if (!feedback.panels[index].empty())
    multiplyAdd(targets.data(), batch.width, errors.data(), cols,
                feedback.panels[index].data(), batch.width, rows, batch.width,
                feedback.triangular ? batch.place : cols);
}

/// Feeds the changes of the errors of a block to the places of its batch from
/// `fromPlace` on.
void RowSweep::push(const Spot &spot, int64_t fromPlace, const CodeBlock &block,
                    const float *changes) {
  const CodeBatch &batch = spot.batch();
  const std::vector<float> &panel = spot.feedback.panels[spot.batchIndex];
  int64_t count = batch.end() - fromPlace;
  if (panel.empty() || count == 0)
    return;
  float *to = target(spot, fromPlace);
  for (int64_t i = 0; i < block.width; ++i) {
    const float *from = panel.data() + (block.place + i) * batch.width +
                        fromPlace - batch.place;
    float change = changes[i];
    for (int64_t k = 0; k < count; ++k)
      to[k] += change * from[k];
  }
}

uint32_t RowSweep::stochasticCode(float value, GroupParams params, int64_t row,
                                  int64_t column) const {
  float scale = format.scaleOf(params);
  if (scale == 0)
    return format.nearest(&value, params);
  float ratio = value / scale;
  if (format.hasZeroPoint())
    ratio += format.hasFloatZero() ? halfToFloat(params.zero) : params.zero;
  auto above = std::upper_bound(
      levels->levels.begin(), levels->levels.end(), ratio,
      [](float value, const auto &level) { return value < level.first; });
  if (above == levels->levels.begin())
    return above->second;
  auto below = above - 1;
  if (above == levels->levels.end())
    return below->second;
  // A number in [0, 1) that belongs to this weight (splitmix64).
  uint64_t z = options.seed + 0x9e3779b97f4a7c15 * (1 + row * cols + column);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  float random = static_cast<float>((z ^ z >> 31) >> 40) * 0x1p-24f;
  float part = (ratio - below->first) / (above->first - below->first);
  return random < part ? above->second : below->second;
}

/// Whether `decoded` ([height][tileColumns]) serves a block better than what it
/// holds now, all other errors being what they are: the loss is the distance
/// to the target in the metric of the block's moments, plus a constant.
bool RowSweep::better(const Spot &spot, const CodeBlock &block,
                      const float *decoded, int64_t height) {
  const CodeBatch &batch = spot.batch();
  const float *moments = spot.feedback.moments[spot.batchIndex].data() +
                         (block.place - batch.place) * (batch.width + 1);
  double gain = 0;
  for (int64_t r = 0; r < height; ++r) {
    const float *goal = targets.data() + (spot.row + r) * batch.width +
                        block.place - batch.place;
    const float *weight = at(weights, spot.row + r, block.place);
    const float *error = at(errors, spot.row + r, block.place);
    const float *fresh = decoded + r * format.tileColumns();
    for (int64_t i = 0; i < block.width; ++i) {
      float old = 0, now = 0;
      for (int64_t j = 0; j < block.width; ++j) {
        float moment = moments[i * batch.width + j];
        old += moment * (goal[j] - weight[j] + error[j]);
        now += moment * (goal[j] - fresh[j]);
      }
      gain += double(old) * (goal[i] - weight[i] + error[i]) -
              double(now) * (goal[i] - fresh[i]);
    }
  }
  return gain > 0;
}

/// The targets of a block, [height][tileColumns], padded with zeros.
void RowSweep::aimAtTarget(const Spot &spot, const CodeBlock &block,
                           int64_t height) {
  std::fill(word.begin(), word.end(), 0.0f);
  const CodeBatch &batch = spot.batch();
  for (int64_t r = 0; r < height; ++r)
    std::copy_n(targets.data() + (spot.row + r) * batch.width + block.place -
                    batch.place,
                block.width, word.data() + r * format.tileColumns());
}

/// A step downhill from what a block holds, in the metric of its moments (over
/// the mean of their diagonal): the code nearest to the target need not be the
/// best one in that metric.
void RowSweep::aimDownhill(const Spot &spot, const CodeBlock &block,
                           int64_t height) {
  const CodeBatch &batch = spot.batch();
  const float *moments = spot.feedback.moments[spot.batchIndex].data() +
                         (block.place - batch.place) * (batch.width + 1);
  float sum = 0;
  for (int64_t i = 0; i < block.width; ++i)
    sum += moments[i * (batch.width + 1)];
  float step = block.width / sum;
  std::fill(word.begin(), word.end(), 0.0f);
  for (int64_t r = 0; r < height; ++r) {
    const float *goal = targets.data() + (spot.row + r) * batch.width +
                        block.place - batch.place;
    const float *weight = at(weights, spot.row + r, block.place);
    const float *error = at(errors, spot.row + r, block.place);
    float *to = word.data() + r * format.tileColumns();
    for (int64_t i = 0; i < block.width; ++i)
      to[i] = weight[i] - error[i];
    for (int64_t j = 0; j < block.width; ++j) {
      float miss = step * (goal[j] - weight[j] + error[j]);
      for (int64_t i = 0; i < block.width; ++i)
        to[i] += miss * moments[j * batch.width + i];
    }
  }
}

/// The moments of a block, 0 for columns that a ragged tile lacks.
std::vector<float> RowSweep::blockMetric(const Spot &spot,
                                         const CodeBlock &block) const {
  const CodeBatch &batch = spot.batch();
  const float *moments = spot.feedback.moments[spot.batchIndex].data() +
                         (block.place - batch.place) * (batch.width + 1);
  int64_t width = format.tileColumns();
  std::vector<float> metric(width * width, 0.0f);
  for (int64_t i = 0; i < block.width; ++i)
    std::copy_n(moments + i * batch.width, block.width,
                metric.data() + i * width);
  return metric;
}

/// Gives a block of one row (the rows of a tile) the code nearest to `word`;
/// `ifBetter`: unless what it holds serves it as well. False: it stays as it
/// is.
bool RowSweep::codeBlock(const Spot &spot, const CodeBlock &block,
                         int64_t height, bool ifBetter) {
  int64_t tileRows = format.tileRows(), tileColumns = format.tileColumns();
  bool tiles = format.hasTiles();
  const GroupParams none, *used = &none;
  uint32_t *stored = codes.data() + spot.row * perRow + block.code;
  if (tiles) {
    used = groups == 0 ? nullptr : &paramsOf(spot.row, 0);
    const float *rowsThatCount =
        height == tileRows && !coupling ? nullptr : realRows.data();
    if ((format.codesInMetric() ||
         (options.tileMetric && block.width == tileColumns)) &&
        !spot.feedback.moments.empty())
      format.nearestTileIn(blockMetric(spot, block).data(), word.data(), used,
                           rowsThatCount, tileCodes.data());
    else
      format.nearestTile(word.data(), used, rowsThatCount, tileCodes.data());
    format.decodeTile(tileCodes.data(), used, decoded.data());
  } else {
    if (groups != 0)
      used = &paramsOf(spot.row, block.group);
    uint32_t code = options.stochastic
                        ? stochasticCode(word[0], *used, first + spot.row,
                                         order[block.place])
                        : format.nearest(word.data(), *used);
    if (ifBetter && code == *stored)
      return false;
    tileCodes[0] = code;
    format.decode(code, *used, decoded.data());
  }
  if (ifBetter && !better(spot, block, decoded.data(), height))
    return false;
  for (int64_t r = 0; r < tileRows; ++r)
    std::copy_n(tileCodes.data() + r * tileColumns, tiles ? tileColumns : 1,
                stored + r * perRow);
  for (int64_t r = 0; r < height; ++r) {
    const float *weight = at(weights, spot.row + r, block.place);
    float *error = at(errors, spot.row + r, block.place);
    for (int64_t i = 0; i < block.width; ++i) {
      float now = weight[i] - decoded[r * tileColumns + i];
      word[i] = now - error[i];
      error[i] = now;
    }
    push({spot.feedback, spot.batchIndex, spot.row + r}, block.end(), block,
         word.data());
  }
  return true;
}

/// A block in its turn.
void RowSweep::visitBlock(const Spot &spot, const CodeBlock &block,
                          bool descent) {
  int64_t height = std::min(format.tileRows(), rows - spot.row);
  std::fill(realRows.begin(), realRows.end(), 0.0f);
  for (int64_t r = 0; r < height; ++r)
    realRows[r] = coupling ? coupling->cost(first + spot.row + r) : 1.0f;
  aimAtTarget(spot, block, height);
  codeBlock(spot, block, height, descent);
  // Tiles are long to code, and gain less.
  if (block.width == 1 || format.hasTiles() || spot.feedback.moments.empty())
    return;
  aimDownhill(spot, block, height);
  codeBlock(spot, block, height, /*ifBetter=*/true);
}

void RowSweep::sweep(const Feedback &feedback, bool descent, bool refit,
                     bool recode) {
  const CodePlan &plan = feedback.plan;
  targets.resize(rows * plan.widestBatch);
  for (int64_t index = 0, end = plan.batches.size(); index < end; ++index) {
    const CodeBatch &batch = plan.batches[index];
    bool coupled = coupling && !descent;
    if (coupled)
      receive(batch);
    startBatch(feedback, index);
    if (format.hasTiles()) {
      for (int64_t b = batch.firstBlock; b < batch.endBlock; ++b)
        for (int64_t row = 0; row < rows; row += format.tileRows()) {
          const CodeBlock &block = plan.blocks[b];
          Spot spot{feedback, index, row};
          int64_t height = std::min(format.tileRows(), rows - row);
          if (coupled)
            receive(spot, height, block.place, block.width);
          visitBlock(spot, block, descent);
          if (coupled)
            tell(row, height, block.place, block.width);
        }
      if (coupled && !tellsWhole)
        coupling->publish(first, batch.end());
      continue;
    }
    bool fits = groups != 0 && plan.wholeGroups &&
                (descent ? refit : !options.staticGroups);
    for (int64_t row = 0; row < rows; ++row) {
      Spot spot{feedback, index, row};
      int64_t group = -1;
      if (coupled)
        receive(spot, 1, batch.place, batch.width);
      for (int64_t b = batch.firstBlock; b < batch.endBlock; ++b) {
        const CodeBlock &block = plan.blocks[b];
        if (fits && block.group != group) {
          group = block.group;
          if (descent)
            refitGroup(spot, b);
          else
            fitWholeGroup(spot, b);
        }
        if (recode)
          visitBlock(spot, block, descent);
      }
      if (coupled)
        tell(row, 1, batch.place, batch.width);
    }
    if (coupled && !tellsWhole)
      coupling->publish(first, batch.end());
  }
}

void RowSweep::encode(const Feedback &feedback) {
  reorder(feedback.plan);
  std::fill(errors.begin(), errors.end(), 0.0f);
  if (groups != 0 && (options.staticGroups || !feedback.plan.wholeGroups))
    fitRows(feedback);
  sweep(feedback, /*descent=*/false, /*refit=*/false, /*recode=*/true);
  uint32_t none;
  std::fill(word.begin(), word.end(), 0.0f);
  for (auto [code, group] : feedback.plan.padding)
    for (int64_t row = 0; row < rows; ++row) {
      none = format.nearest(word.data(),
                            groups == 0 ? GroupParams() : paramsOf(row, group));
      codes[row * perRow + code] = none;
    }
}

void RowSweep::descend(const Feedback &feedback, bool refit, bool recode) {
  reorder(feedback.plan);
  if (refit && groups == 1)
    refitRows(feedback);
  bool inGroups = refit && groups > 1 && feedback.plan.wholeGroups;
  if (recode || inGroups)
    sweep(feedback, /*descent=*/true, inGroups, recode);
}

void RowSweep::store(EncodedRows &encoded) const {
  std::copy(codes.begin(), codes.end(), encoded.codes.begin() + first * perRow);
  std::copy(params.begin(), params.end(),
            encoded.params.begin() + first * groups);
}

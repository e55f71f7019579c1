//===- Aqlm.cpp - Codes and codebooks in turn -----------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// aqlm<beam = B, rounds = R, damp = D>: for formats whose codewords are sums of
// learned vectors (Format::codebook()). Begins with the nearest codewords, then
// R times, as long as that helps:
//
//   codes: the codewords of one group of columns after the other, each the best
//     of a beam search for the loss with all others as they are;
//   scales: the best one of each row;
//   vectors: least squares over the whole weight, by conjugate gradients, then
//     rounded to what is stored.
//
// No step raises the loss tr(E H E^T). Without second moments H is the
// identity.
//
//===----------------------------------------------------------------------===//

#include "BuiltinQuantizers.h"
#include "Quantizers/Common.h"
#include "Quantizers/Gemm.h"
#include "quench/Quantization/Codebook.h"
#include "quench/Quantization/Half.h"
#include <cmath>

using namespace quench;

/// Columns whose codes are chosen before the rest of the row hears of it.
static constexpr int64_t kBlock = 128;
/// Rows that one thread takes at a time.
static constexpr int64_t kRows = 32;
/// Steps of conjugate gradients in a round.
static constexpr int kSteps = 6;

namespace {

struct Options {
  int64_t beam, rounds;
  double damping;
};

/// Square matrices of codewords are small.
class Cholesky {
public:
  /// h: [n][n] within rows of `stride` numbers, positive definite; what is not
  /// becomes so by a share of the diagonal.
  Cholesky(const float *h, int64_t stride, int64_t n) : n(n), l(n * n) {
    double most = 1e-30;
    for (int64_t i = 0; i < n; ++i)
      most = std::max<double>(most, h[i * stride + i]);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j <= i; ++j) {
        double sum = h[i * stride + j];
        for (int64_t k = 0; k < j; ++k)
          sum -= l[i * n + k] * l[j * n + k];
        if (i == j)
          l[i * n + i] = std::sqrt(std::max(sum, 1e-6 * most));
        else
          l[i * n + j] = sum / l[j * n + j];
      }
  }
  /// L^T v.
  void multiply(const float *v, double *out) const {
    for (int64_t j = 0; j < n; ++j) {
      out[j] = 0;
      for (int64_t i = j; i < n; ++i)
        out[j] += l[i * n + j] * v[i];
    }
  }
  /// v = L^-1 v.
  void solve(double *v) const {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t k = 0; k < i; ++k)
        v[i] -= l[i * n + k] * v[k];
      v[i] /= l[i * n + i];
    }
  }

private:
  int64_t n;
  std::vector<double> l;
};

/// A weight on its way. Rows are padded to whole codewords; the padding of the
/// weight is 0 and counts (nearly) nothing.
class Refinement {
public:
  Refinement(const QuantizeProblem &problem, const Options &options,
             EncodedRows &encoded)
      : problem(problem), options(options), encoded(encoded),
        format(problem.format->bind(encoded.table)), rows(problem.rows),
        length(problem.format->codeLength()),
        perRow(codesPerRow(*problem.format, problem.cols)),
        cols(perRow * length), book(format->codebook()) {
    while ((int64_t(1) << bits) < book->entries())
      ++bits;
    weight.assign(rows * cols, 0.0f);
    for (int64_t row = 0; row < rows; ++row)
      std::copy_n(problem.weight + row * problem.cols, problem.cols,
                  weight.begin() + row * cols);
    if (problem.hessian)
      readHessian();
    errors = missing();
    now = loss(errors);
  }

  void run() {
    for (int64_t round = 0; round < options.rounds; ++round) {
      double before = now;
      findCodes();
      fitScales();
      fitVectors();
      if (!(now < 0.999 * before))
        break;
    }
  }

private:
  void readHessian() {
    double mean = 0;
    for (int64_t i = 0; i < problem.cols; ++i)
      mean += problem.hessian[i * problem.cols + i] / problem.cols;
    float damp = std::max(options.damping * mean, 1e-6 * mean + 1e-30);
    hessian.assign(cols * cols, 0.0f);
    for (int64_t i = 0; i < cols; ++i) {
      for (int64_t j = 0; i < problem.cols && j < problem.cols; ++j)
        hessian[i * cols + j] = problem.hessian[i * problem.cols + j];
      hessian[i * cols + i] += damp;
    }
  }

  float scaleOf(int64_t row) const {
    return halfToFloat(encoded.params[row].scale) * format->unit();
  }
  void codesOf(int64_t word, uint32_t *codes) const {
    for (int64_t t = 0; t < book->tables(); ++t)
      codes[t] = encoded.codes[word] >> (t * bits) & ((1u << bits) - 1);
  }

  /// What a codeword of row `row` misses.
  void missingOf(int64_t row, int64_t word, const uint32_t *codes,
                 float *out) const {
    book->sum(codes, out);
    const float *from = weight.data() + row * cols + word * length;
    for (int64_t j = 0; j < length; ++j)
      out[j] = from[j] - scaleOf(row) * out[j];
  }
  std::vector<float> missing() const {
    std::vector<float> result(rows * cols);
    std::vector<uint32_t> codes(book->tables());
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t word = 0; word < perRow; ++word) {
        codesOf(row * perRow + word, codes.data());
        missingOf(row, word, codes.data(),
                  result.data() + row * cols + word * length);
      }
    return result;
  }

  /// out += in H[first .. first + count), of rows `width` numbers long.
  void multiply(const float *in, int64_t stride, int64_t first, int64_t count,
                float *out) const {
    forEachIndex((rows + kRows - 1) / kRows, problem.threads, [&](int64_t i) {
      int64_t row = i * kRows;
      multiplyAdd(out + row * cols, cols, in + row * stride, stride,
                  hessian.data() + first * cols, cols,
                  std::min(kRows, rows - row), cols, count);
    });
  }
  std::vector<float> weighed(const std::vector<float> &values) const {
    if (hessian.empty())
      return values;
    std::vector<float> out(values.size());
    multiply(values.data(), cols, 0, cols, out.data());
    return out;
  }
  double loss(const std::vector<float> &values) const {
    std::vector<float> product = weighed(values);
    double sum = 0;
    for (size_t i = 0; i < values.size(); ++i)
      sum += double(values[i]) * product[i];
    return sum;
  }

  void findCodes() {
    std::vector<float> gradient = weighed(errors);
    int64_t step = std::max<int64_t>(1, kBlock / length);
    for (int64_t first = 0; first < perRow; first += step) {
      int64_t end = std::min(first + step, perRow);
      std::vector<float> moved(rows * (end - first) * length);
      for (int64_t word = first; word < end; ++word)
        findWord(word, first, end, gradient, moved);
      if (!hessian.empty())
        multiply(moved.data(), (end - first) * length, first * length,
                 (end - first) * length, gradient.data());
    }
    now = loss(errors);
  }

  /// Chooses codeword `word` of all rows. `moved`: how the errors of codewords
  /// first .. end - 1 changed since `gradient` = E H was right.
  void findWord(int64_t word, int64_t first, int64_t end,
                const std::vector<float> &gradient, std::vector<float> &moved) {
    int64_t at = word * length, stride = (end - first) * length;
    std::vector<float> identity;
    const float *h = hessian.data() + at * cols + at;
    int64_t hStride = cols;
    if (hessian.empty()) {
      identity.assign(length * length, 0.0f);
      for (int64_t j = 0; j < length; ++j)
        identity[j * length + j] = 1;
      h = identity.data();
      hStride = length;
    }
    // With H = L L^T the loss of a codeword is a distance of L^T c.
    Cholesky factor(h, hStride, length);
    std::vector<float> turned(book->vectors().size());
    std::vector<double> column(length);
    for (size_t i = 0; i < turned.size(); i += length) {
      factor.multiply(book->vectors().data() + i, column.data());
      std::copy(column.begin(), column.end(), turned.begin() + i);
    }
    AdditiveCodebook search(book->tables(), book->entries(), length,
                            std::move(turned));

    forEachIndex((rows + kRows - 1) / kRows, problem.threads, [&](int64_t i) {
      std::vector<double> others(length), target(length);
      std::vector<int64_t> searched; // rows
      std::vector<float> points;
      for (int64_t row = i * kRows; row < std::min(rows, (i + 1) * kRows);
           ++row) {
        float scale = scaleOf(row);
        if (scale == 0)
          continue;
        const float *present = errors.data() + row * cols + at;
        const float *change = moved.data() + row * stride;
        // What the errors of all other columns pull.
        for (int64_t j = 0; j < length; ++j) {
          double pull = 0;
          if (!hessian.empty()) {
            pull = gradient[row * cols + at + j];
            const float *line = hessian.data() + (at + j) * cols;
            for (int64_t k = 0; k < at - first * length; ++k)
              pull += double(change[k]) * line[first * length + k];
            for (int64_t k = 0; k < length; ++k)
              pull -= double(present[k]) * line[at + k];
          }
          others[j] = pull;
        }
        factor.solve(others.data());
        factor.multiply(weight.data() + row * cols + at, target.data());
        searched.push_back(row);
        for (int64_t j = 0; j < length; ++j)
          points.push_back((target[j] + others[j]) / scale);
      }
      std::vector<uint32_t> found(searched.size() * book->tables());
      search.findAll(points.data(), searched.size(), options.beam,
                     found.data());
      for (auto [n, row] : llvm::enumerate(searched))
        exchange(row, word, search, points.data() + n * length,
                 found.data() + n * book->tables(),
                 moved.data() + row * stride + at - first * length);
    });
  }

  /// Gives a codeword new codes where `search` has them nearer to `point`.
  void exchange(int64_t row, int64_t word, const AdditiveCodebook &search,
                const float *point, const uint32_t *codes, float *change) {
    std::vector<uint32_t> old(book->tables());
    std::vector<float> sum(length), error(length);
    codesOf(row * perRow + word, old.data());
    auto distance = [&](const uint32_t *of) {
      search.sum(of, sum.data());
      double result = 0;
      for (int64_t j = 0; j < length; ++j)
        result += double(point[j] - sum[j]) * (point[j] - sum[j]);
      return result;
    };
    if (!(distance(codes) < distance(old.data())))
      return;
    uint32_t code = 0;
    for (int64_t t = 0; t < book->tables(); ++t)
      code |= codes[t] << (t * bits);
    encoded.codes[row * perRow + word] = code;
    missingOf(row, word, codes, error.data());
    float *present = errors.data() + row * cols + word * length;
    for (int64_t j = 0; j < length; ++j) {
      change[j] = error[j] - present[j];
      present[j] = error[j];
    }
  }

  /// The scale of a row is a least squares problem of one number.
  void fitScales() {
    std::vector<float> product = weighed(errors), values(rows * cols);
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = weight[i] - errors[i];
    std::vector<float> own = weighed(values);
    for (int64_t row = 0; row < rows; ++row) {
      double along = 0, size = 0;
      for (int64_t i = row * cols; i < (row + 1) * cols; ++i) {
        along += double(values[i]) * product[i];
        size += double(values[i]) * own[i];
      }
      if (!(size > 0))
        continue;
      uint16_t old = encoded.params[row].scale;
      float scale = halfToFloat(old);
      uint16_t fitted = format->roundScale(scale * (1 + along / size));
      // The loss along the scale is a parabola around along / size.
      double best = along / size, moved = halfToFloat(fitted) / scale - 1;
      if (std::fabs(moved - best) < std::fabs(best) && fitted != 0)
        encoded.params[row].scale = fitted;
    }
    errors = missing();
    now = loss(errors);
  }

  void fitVectors() {
    int64_t words = rows * perRow, tables = book->tables();
    std::vector<uint32_t> codes(words * tables);
    std::vector<float> scales(words);
    for (int64_t word = 0; word < words; ++word) {
      codesOf(word, codes.data() + word * tables);
      scales[word] = scaleOf(word / perRow);
    }
    auto weigh = [&](std::vector<float> &values) { values = weighed(values); };
    CodebookFit fit{tables,       book->entries(), length, words,
                    codes.data(), scales.data(),   nullptr};
    if (!hessian.empty())
      fit.weigh = weigh;
    std::vector<float> vectors = book->vectors().vec(), left = errors;
    fit.improve(vectors, left, kSteps);

    std::unique_ptr<Format> last = std::move(format);
    std::vector<uint8_t> table = last->storeCodebook(vectors);
    format = last->bind(table);
    book = format->codebook();
    left = missing();
    double fitted = loss(left);
    if (fitted < now) {
      encoded.table = std::move(table);
      errors = std::move(left);
      now = fitted;
    } else {
      format = std::move(last);
      book = format->codebook();
    }
  }

  const QuantizeProblem &problem;
  const Options &options;
  EncodedRows &encoded;
  std::unique_ptr<Format> format; // bound
  int64_t rows, length, perRow, cols;
  const AdditiveCodebook *book;
  unsigned bits = 0;
  std::vector<float> weight, hessian, errors; // hessian empty: the identity
  double now = 0;
};

class Aqlm : public Quantizer {
public:
  explicit Aqlm(const Options &options) : options(options) {}
  std::string spec() const override {
    char damping[32];
    std::snprintf(damping, sizeof damping, "%g", options.damping);
    return formatSpec("aqlm", {"beam = " + std::to_string(options.beam),
                               "rounds = " + std::to_string(options.rounds),
                               std::string("damp = ") + damping});
  }
  bool usesHessian() const override { return true; }
  llvm::Expected<QuantizeResult>
  quantize(const QuantizeProblem &problem) const override {
    QuantizeResult result = roundToNearest(problem, FitOptions());
    std::unique_ptr<Format> bound = problem.format->bind(result.encoded.table);
    if (!bound || !bound->codebook())
      return llvm::createStringError(
          "the quantizer 'aqlm' works on sums of learned codewords, such as "
          "aqlm<2x8, group = 8>; found " +
          problem.format->spec());
    if (problem.rows == 0 || problem.cols == 0)
      return result;
    EncodedRows plain = result.encoded;
    Refinement(problem, options, result.encoded).run();
    std::vector<float> decoded(problem.rows * problem.cols);
    decodeRows(*problem.format, result.encoded, decoded.data());
    double loss = quantizationLoss(problem, decoded.data());
    if (loss <= result.loss) {
      result.loss = loss;
    } else {
      result.encoded = std::move(plain);
      result.note = "rounded to nearest: nothing was better";
    }
    return result;
  }

private:
  Options options;
};

} // namespace

static QuantizerRegistration registration(
    "aqlm",
    "codes by beam search and codewords by least squares, in turn: "
    "aqlm<beam = B, rounds = R, damp = D>",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Quantizer>> {
      FormatArgReader reader(args);
      Options options;
      options.beam = reader.option("beam", 1, 256, 16);
      options.rounds = reader.option("rounds", 0, 100, 4);
      options.damping = reader.real("damp", 0, 1000, 0.01);
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<Aqlm>(options);
    });

QUENCH_BUILTIN_QUANTIZER(Aqlm)

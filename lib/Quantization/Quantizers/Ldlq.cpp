//===- Ldlq.cpp - Rounding with feedback ----------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// gptq, ldlq: columns are coded in order, and what each one's error does to the
// layer's output is made good for by the columns after it. GPTQ is LDLQ for
// scalar codes; vector codes and tiles take their columns together
// (BlockLDLQ). Rows do not know each other, so they are coded by chunks; the
// numbers do not depend on who does which.
//
//===----------------------------------------------------------------------===//

#include "BuiltinQuantizers.h"
#include "Quantizers/Common.h"
#include "Quantizers/Sweep.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>

using namespace quench;

/// Rows that are coded together.
static constexpr int64_t kChunk = 32;
static constexpr double kDamping = 0.01;
/// Damping of the moments of n outputs over T tokens, in n / T.
static constexpr double kNoise = 0.5;

namespace {

struct LdlqOptions {
  std::string name;
  bool actOrder = false, refit = false, bestScale = false, twoSided = false;
  int64_t descents = 0;
  double damping = kDamping;
  SweepOptions sweep;
};

class Ldlq : public Quantizer {
public:
  explicit Ldlq(LdlqOptions options) : options(std::move(options)) {}
  std::string spec() const override;
  bool usesHessian() const override { return true; }
  bool usesOutputMoments() const override { return options.twoSided; }
  llvm::Expected<QuantizeResult>
  quantize(const QuantizeProblem &problem) const override;

private:
  LdlqOptions options;
};

/// One weight on its way.
class LdlqRun {
public:
  LdlqRun(const QuantizeProblem &problem, const LdlqOptions &options);
  QuantizeResult run();

private:
  void prepare();
  void prepareFeedback();
  void coupleRows();
  float bestScale();
  void encode(const QuantizeProblem &part, const SweepOptions &sweep,
              bool whole, EncodedRows &encoded);
  /// After encode() codes or scales change again.
  bool improves() const {
    return !full.panels.empty() && (options.descents > 0 || options.refit);
  }
  /// Rows that are coded together where rows know each other.
  int64_t chunkRows() const {
    return improves() ? format->tileRows() : codedRows(*format, kChunk);
  }
  /// The only scale is that of the whole weight.
  bool scalesTensor() const {
    return !format->hasScale() && format->hasTensorScale();
  }
  void note(const llvm::Twine &text) {
    result.note += (result.note.empty() ? "" : "; ") + text.str();
  }

  const QuantizeProblem &problem;
  const LdlqOptions &options;
  QuantizeResult result;
  std::unique_ptr<Format> bound;
  const Format *format;
  std::optional<LevelTable> levels;
  Feedback triangular, full;
  std::unique_ptr<RowCoupling> coupling;
};

} // namespace

static std::string text(double number) {
  std::string result;
  llvm::raw_string_ostream(result) << llvm::format("%g", number);
  return result;
}

LdlqRun::LdlqRun(const QuantizeProblem &problem, const LdlqOptions &options)
    : problem(problem), options(options), format(problem.format) {}

/// Factorizes the second moments; where that fails, with more damping, and at
/// last there is no feedback.
void LdlqRun::prepareFeedback() {
  int64_t cols = problem.cols;
  auto giveUp = [&](const llvm::Twine &why) {
    note(why + ": rounded to nearest");
    triangular = noFeedback(makePlan(*format, cols, nullptr));
    full = Feedback();
  };
  if (!problem.hessian)
    return giveUp("no second moments");
  Moments moments(problem.hessian, cols);
  if (moments.badColumns() == cols)
    return giveUp("no column has finite, positive second moments");
  if (int64_t bad = moments.badColumns()) {
    int64_t dead = moments.deadColumns();
    if (dead != 0)
      note(llvm::Twine(dead) + " of " + llvm::Twine(cols) +
           " columns are always 0: rounded to nearest");
    if (bad > dead)
      note(llvm::Twine(bad - dead) + " of " + llvm::Twine(cols) +
           " columns have second moments that are not finite or not positive: "
           "rounded to nearest");
  }
  std::vector<double> importance;
  if (options.actOrder)
    for (int64_t i = 0; i < cols; ++i)
      importance.push_back(moments.at(i, i));
  bool needsFull = options.descents > 0 || options.refit;
  double most = std::max(1.0, options.damping);
  for (double damping = options.damping;;
       damping = damping == 0 ? kDamping : 10 * damping) {
    if (damping > most * 1.0001)
      return giveUp("the second moments are not positive definite, not even "
                    "with a damping of " +
                    text(most));
    moments.damp(damping);
    if (!triangularFeedback(
            moments,
            makePlan(*format, cols,
                     options.actOrder ? importance.data() : nullptr),
            problem.threads, triangular))
      continue;
    if (needsFull && !fullFeedback(moments, makePlan(*format, cols, nullptr),
                                   problem.threads, full))
      continue;
    if (damping != options.damping)
      note(
          "the second moments are not positive definite: damping raised from " +
          text(options.damping) + " to " + text(damping));
    return;
  }
}

/// Feedback between rows. Rows that are changed once more after they are coded
/// come one after the other: those behind them need their last errors.
void LdlqRun::coupleRows() {
  if (!options.twoSided)
    return;
  if (!problem.outputMoments)
    return note("no second moments of the outputs: one-sided");
  int64_t n = problem.rows;
  std::vector<double> copy(problem.outputMoments,
                           problem.outputMoments + n * n);
  Moments moments(copy.data(), n);
  // Gradients come of drawn labels; of few tokens they say little about the
  // directions in which G is small.
  double least = std::max(options.damping, kDamping);
  if (problem.outputTokens > 0)
    least = std::max(least, kNoise * n / problem.outputTokens);
  for (double damping = least, most = std::max(1.0, least) * 1.0001;
       damping <= most && moments.badColumns() < n && !coupling;
       damping *= 10) {
    moments.damp(damping);
    coupling = RowCoupling::create(moments, problem.cols, format->tileRows(),
                                   chunkRows(), problem.threads);
  }
  if (!coupling)
    note("the second moments of the outputs do not serve: one-sided");
}

void LdlqRun::prepare() {
  FitOptions fit;
  fit.search = options.sweep.search;
  EncodedRows &encoded = result.encoded;
  encoded = fitSharedOf(problem, fit);
  if (scalesTensor())
    encoded.tensorScale *= options.sweep.scale;
  bound = format->bind(encoded.table);
  if (bound)
    format = bound.get();
  if (options.sweep.stochastic)
    levels.emplace(*format);
  prepareFeedback();
}

/// Codes the rows of `part`, whose tensor scale and table are in `encoded`.
/// `whole`: it is the whole weight, and all that is asked for is done.
void LdlqRun::encode(const QuantizeProblem &part, const SweepOptions &sweep,
                     bool whole, EncodedRows &encoded) {
  int64_t rows = part.rows, cols = part.cols;
  encoded.rows = rows;
  encoded.cols = cols;
  encoded.codes.resize(codedRows(*format, rows) * codesPerRow(*format, cols));
  encoded.params.resize(codedRows(*format, rows) * format->groupsPerRow(cols));
  int64_t chunk = whole && coupling ? chunkRows() : codedRows(*format, kChunk);
  int64_t chunks = (rows + chunk - 1) / chunk;
  bool refitTensor = whole && options.refit && format->hasTensorScale() &&
                     !full.panels.empty();
  std::vector<RowSweep::ScaleSums> sums(refitTensor ? chunks : 0);
  forEachIndex(chunks, problem.threads, [&](int64_t i) {
    int64_t first = i * chunk, count = std::min(chunk, rows - first);
    RowSweep some(*format, part.weight, first, count, cols, encoded.tensorScale,
                  sweep, levels ? &*levels : nullptr);
    if (whole && coupling)
      some.couple(*coupling, improves());
    some.encode(triangular);
    if (whole && !full.panels.empty()) {
      for (int64_t pass = 0; pass < options.descents; ++pass)
        some.descend(full, options.refit, /*recode=*/true);
      if (options.refit)
        some.descend(full, /*refit=*/true, /*recode=*/false);
    }
    if (refitTensor)
      sums[i] = some.scaleSums(full);
    if (whole && coupling && improves())
      some.publish(triangular);
    some.store(encoded);
  });
  RowSweep::ScaleSums total;
  for (const RowSweep::ScaleSums &each : sums) {
    total.gain += each.gain;
    total.cost += each.cost;
  }
  if (double factor = 1 + total.gain / total.cost; factor > 0.5 && factor < 2)
    encoded.tensorScale *= static_cast<float>(factor);
}

/// The factor of the scales that serves some of the rows best.
float LdlqRun::bestScale() {
  constexpr int64_t kSamples = 64;
  int64_t tile = format->tileRows(), tiles = problem.rows / tile,
          cols = problem.cols;
  int64_t count = std::min(
      tiles,
      std::max<int64_t>(1, std::max(kSamples, problem.rows / 32) / tile));
  if (count == 0)
    return options.sweep.scale;
  std::vector<float> sample, decoded(count * tile * cols);
  for (int64_t i = 0; i < count; ++i) {
    const float *from = problem.weight + i * tiles / count * tile * cols;
    sample.insert(sample.end(), from, from + tile * cols);
  }
  QuantizeProblem part = problem;
  part.weight = sample.data();
  part.rows = count * tile;
  part.outputMoments = nullptr;
  auto lossOf = [&](float scale) {
    EncodedRows encoded;
    encoded.tensorScale = result.encoded.tensorScale;
    encoded.table = result.encoded.table;
    SweepOptions sweep = options.sweep;
    sweep.scale = scale;
    if (scalesTensor())
      encoded.tensorScale *= scale / options.sweep.scale;
    encode(part, sweep, /*whole=*/false, encoded);
    decodeRows(*problem.format, encoded, decoded.data());
    double loss = quantizationLoss(part, decoded.data());
    return std::isfinite(loss) ? loss : HUGE_VAL;
  };
  float best = options.sweep.scale;
  double least = lossOf(best);
  for (float step : {1.08f, 1.03f}) {
    bool up = false;
    for (float factor : {step, 1 / step}) {
      if (up)
        break;
      for (int i = 0; i < 5; ++i) {
        double loss = lossOf(best * factor);
        if (!(loss < least))
          break;
        least = loss;
        best *= factor;
        up = true;
      }
    }
  }
  return best;
}

QuantizeResult LdlqRun::run() {
  prepare();
  SweepOptions sweep = options.sweep;
  if (options.bestScale && (format->hasScale() || scalesTensor())) {
    sweep.scale = bestScale();
    if (scalesTensor())
      result.encoded.tensorScale *= sweep.scale / options.sweep.scale;
  }
  coupleRows();
  encode(problem, sweep, /*whole=*/true, result.encoded);
  triangular = full = Feedback();
  coupling.reset();
  std::vector<float> decoded(problem.rows * problem.cols);
  decodeRows(*problem.format, result.encoded, decoded.data());
  result.loss = quantizationLoss(problem, decoded.data());
  return std::move(result);
}

std::string Ldlq::spec() const {
  std::vector<std::string> arguments;
  auto flag = [&](bool given, const char *name) {
    if (given)
      arguments.push_back(name);
  };
  flag(options.twoSided, "two-sided");
  flag(options.actOrder, "act-order");
  flag(options.sweep.staticGroups, "static-groups");
  flag(options.sweep.search, "search");
  flag(options.bestScale, "best-scale");
  flag(options.sweep.tileMetric, "tile-metric");
  flag(options.refit, "refit");
  flag(options.sweep.stochastic, "stochastic");
  if (options.sweep.seed != 0)
    arguments.push_back("seed = " + std::to_string(options.sweep.seed));
  if (options.descents != 0)
    arguments.push_back("cd = " + std::to_string(options.descents));
  if (options.damping != kDamping)
    arguments.push_back("damp = " + text(options.damping));
  if (options.sweep.scale != 1)
    arguments.push_back("scale = " + text(options.sweep.scale));
  return formatSpec(options.name, arguments);
}

llvm::Expected<QuantizeResult>
Ldlq::quantize(const QuantizeProblem &problem) const {
  const Format &format = *problem.format;
  if (options.sweep.stochastic &&
      (format.hasTiles() || format.codeLength() != 1 || format.codeBits() > 8))
    return llvm::createStringError(
        spec() +
        ": stochastic rounding takes formats with a code of at most 8 "
        "bits for each weight; " +
        format.spec() + " is none");
  return LdlqRun(problem, options).run();
}

static llvm::Expected<std::unique_ptr<Quantizer>>
makeLdlq(const FormatArgs &args) {
  FormatArgReader reader(args);
  LdlqOptions options;
  options.name = args.name;
  options.twoSided = reader.flag("two-sided");
  options.actOrder = reader.flag("act-order");
  options.sweep.staticGroups = reader.flag("static-groups");
  options.sweep.search = reader.flag("search");
  options.bestScale = reader.flag("best-scale");
  options.sweep.tileMetric = reader.flag("tile-metric");
  options.refit = reader.flag("refit");
  options.sweep.stochastic = reader.flag("stochastic");
  options.sweep.seed = reader.option("seed", 0, INT64_MAX, 0);
  options.descents = reader.option("cd", 0, 100, 0);
  options.damping = reader.real("damp", 0, 1000, kDamping);
  options.sweep.scale = reader.real("scale", 0.1, 10, 1);
  if (options.sweep.stochastic && (options.descents != 0 || options.refit))
    reader.fail("'stochastic' excludes 'cd' and 'refit'");
  if (!options.sweep.stochastic && options.sweep.seed != 0)
    reader.fail("'seed' belongs to 'stochastic'");
  if (llvm::Error error = reader.finish())
    return std::move(error);
  return std::make_unique<Ldlq>(options);
}

static const char kHelp[] =
    "<two-sided, act-order, static-groups, search, best-scale, tile-metric, "
    "refit, "
    "stochastic, seed = N, cd = N, damp = D, scale = C>";

static QuantizerRegistration
    gptq("gptq", std::string("feedback of rounding errors: gptq") + kHelp,
         makeLdlq);
static QuantizerRegistration
    ldlq("ldlq",
         std::string("the same under its name for vector codes: ldlq") + kHelp,
         makeLdlq);

QUENCH_BUILTIN_QUANTIZER(Ldlq)

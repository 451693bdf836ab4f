/** What is measured, and how rounds of it become a figure. */

/** One run of calls. */
export interface Measure {
  /** Calls, messages or MiB a second. */
  readonly rate: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** How many processor cores were busy, on average, in each process. */
  readonly cores: {
    readonly server: number;
    /** Undefined if the system does not tell. */
    readonly database: number | undefined;
    /** Undefined if the calls were made by the very process that is measured. */
    readonly load: number | undefined;
  };
}

/** Measures of one round by name. */
export type Round = ReadonlyMap<string, Measure>;

/** What is shown of measures. */
export type FigureSpec = RatioSpec | LatencySpec;

/** A promise: one measure's rate is at least so much of another's. */
export interface RatioSpec {
  readonly title: string;
  readonly unit: "calls/s" | "messages/s" | "MiB/s";
  readonly subject: string;
  readonly baseline: string;
  readonly atLeast: number;
  /** The promise is also kept by a rate of at least so much. */
  readonly orRateAtLeast?: number;
}

/** How long the calls of one measure took, for which nothing is promised. */
export interface LatencySpec {
  readonly title: string;
  readonly unit: "calls/s" | "messages/s";
  readonly latencyOf: string;
  /** The measure it is shown beside, if there is one. */
  readonly beside?: string;
}

/** A set of figures whose measures are taken in the same rounds. */
export interface Scenario {
  /** What runs in every round, one after the other; in odd rounds from the last to the first. */
  readonly legs: readonly ((seconds: number) => Promise<Round>)[];
  readonly figures: readonly FigureSpec[];
  /** Between rounds, not measured. */
  readonly reset?: () => Promise<void>;
}

/** The middle of some values, and how far they were apart. */
export interface Spread {
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
}

/** What came of a figure. */
export type Figure = RatioFigure | LatencyFigure;

export interface RatioFigure extends RatioSpec {
  readonly subjectRate: Spread;
  readonly baselineRate: Spread;
  /** Of each round's two rates: what slows the machine for a while slows both. */
  readonly ratio: Spread;
  readonly holds: boolean;
  /** Of the round in the middle. */
  readonly subjectMeasure: Measure;
  readonly baselineMeasure: Measure;
}

export interface LatencyFigure extends LatencySpec, Latency {
  readonly besideLatency: Latency | undefined;
}

/** How long the calls of one measure took, over all rounds. */
export interface Latency {
  readonly rate: Spread;
  readonly p50Ms: Spread;
  readonly p99Ms: Spread;
  readonly maxMs: Spread;
  /** Of the round in the middle. */
  readonly measure: Measure;
}

/** Runs a scenario's rounds, after one that is not counted, and makes its figures. */
export async function runScenario(
  scenario: Scenario,
  options: { readonly rounds: number; readonly seconds: number },
): Promise<readonly Figure[]> {
  await runRound(scenario, 0, options.seconds / 2);
  const rounds: Round[] = [];
  for (let round = 0; round < options.rounds; round++) {
    rounds.push(await runRound(scenario, round, options.seconds));
  }
  return scenario.figures.map((figure) => toFigure(figure, rounds));
}

async function runRound(scenario: Scenario, round: number, seconds: number): Promise<Round> {
  const measures: [string, Measure][] = [];
  for (const leg of round % 2 === 0 ? scenario.legs : scenario.legs.toReversed()) {
    measures.push(...(await leg(seconds)));
  }
  await scenario.reset?.();
  return new Map(measures);
}

function toFigure(spec: FigureSpec, rounds: readonly Round[]): Figure {
  return "latencyOf" in spec ? toLatencyFigure(spec, rounds) : toRatioFigure(spec, rounds);
}

function toRatioFigure(spec: RatioSpec, rounds: readonly Round[]): RatioFigure {
  const pairs = rounds.map((round) => {
    const subject = measureIn(round, spec.subject);
    const baseline = measureIn(round, spec.baseline);
    return { subject, baseline, ratio: subject.rate / baseline.rate };
  });
  const middle = middleOf(pairs, (pair) => pair.ratio);
  const subjectRate = spreadOf(pairs.map((pair) => pair.subject.rate));
  const ratio = spreadOf(pairs.map((pair) => pair.ratio));
  return {
    ...spec,
    subjectRate,
    baselineRate: spreadOf(pairs.map((pair) => pair.baseline.rate)),
    ratio,
    holds: ratio.median >= spec.atLeast || subjectRate.median >= (spec.orRateAtLeast ?? Infinity),
    subjectMeasure: middle.subject,
    baselineMeasure: middle.baseline,
  };
}

function toLatencyFigure(spec: LatencySpec, rounds: readonly Round[]): LatencyFigure {
  const besideLatency = spec.beside === undefined ? undefined : toLatency(spec.beside, rounds);
  return { ...spec, ...toLatency(spec.latencyOf, rounds), besideLatency };
}

function toLatency(name: string, rounds: readonly Round[]): Latency {
  const measures = rounds.map((round) => measureIn(round, name));
  return {
    rate: spreadOf(measures.map(({ rate }) => rate)),
    p50Ms: spreadOf(measures.map(({ p50Ms }) => p50Ms)),
    p99Ms: spreadOf(measures.map(({ p99Ms }) => p99Ms)),
    maxMs: spreadOf(measures.map(({ maxMs }) => maxMs)),
    measure: middleOf(measures, ({ p50Ms }) => p50Ms),
  };
}

function measureIn(round: Round, name: string): Measure {
  const measure = round.get(name);
  if (measure === undefined) {
    throw new Error(`${name} was not measured`);
  }
  return measure;
}

function middleOf<Item>(items: readonly Item[], rankOf: (item: Item) => number): Item {
  const middle = items.toSorted((a, b) => rankOf(a) - rankOf(b))[Math.floor(items.length / 2)];
  if (middle === undefined) {
    throw new RangeError("there must be a round");
  }
  return middle;
}

function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (place: number) => sorted[place] ?? Number.NaN;
  const upper = Math.floor(sorted.length / 2);
  const median = sorted.length % 2 === 1 ? at(upper) : (at(upper - 1) + at(upper)) / 2;
  return { median, lowest: at(0), highest: at(sorted.length - 1) };
}

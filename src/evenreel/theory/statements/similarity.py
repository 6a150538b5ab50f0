"""C.1 to C.5 and two remarks: the temporal loss."""

from evenreel.theory import similarity
from evenreel.theory.measured import Measured, draw
from evenreel.theory.statement import Statement

ANGLES = (0.0, 37.0, 90.0, 180.0)


def _sharp_cosine() -> tuple[Measured, ...]:
    one = draw(6, seed=1)
    other = draw(6, seed=2)
    right = other - (other @ one) / (one @ one) * one
    return (similarity.gradient_of_cosine(one, right),)


def _steep_and_curved() -> tuple[Measured, ...]:
    return (
        similarity.largest_gradient(similarity.steepest_clip()),
        similarity.curvature(similarity.most_curved_clip(40), iterations=150),
    )


def _descent() -> tuple[Measured, ...]:
    return similarity.descends(draw(6, 5, seed=3), step_share=0.9, steps=60)


def _form_and_convexity() -> tuple[Measured, ...]:
    one, other = draw(7, seed=4).tanh(), draw(7, seed=5).tanh()
    return (
        similarity.quadratic_form(draw(6, 5, seed=3)),
        similarity.convex_in_similarities(one, other),
    )


STATEMENTS = (
    Statement(
        ids=("C.1", "4.1"),
        title="The temporal loss is differentiable",
        claim="L_temp is differentiable if the features are bounded: norm(F_t) <= M for all t.",
        hypotheses="norm(F_t) <= M",
        status="false as stated",
        fault="The cosine is not defined at F = 0, and an upper bound does not keep F away from 0.",
        gist="smooth where norm(F_t) >= m > 0",
        truth="L_temp is infinitely often differentiable where norm(F_t) >= m for all t.",
        conditions="m > 0; the features may be as large as they like",
        why="cos(F, G) = <F, G> / (|F| |G|) is a quotient of smooth functions whose denominator is at least "
        "m^2. Near F = 0 it takes every value of [-1, 1].",
        sharp="The condition cannot be weakened: m = 0 fails.",
        meaning="A loss in code needs no epsilon, as long as no feature map is zero everywhere; m is measured "
        "below.",
        counterexample=similarity.undefined_at_zero,
        check=lambda: (similarity.taylor_remainder(draw(6, 5, seed=3)),),
    ),
    Statement(
        ids=("C.2", "4.2"),
        title="The gradient of the cosine is bounded",
        claim="|grad_F cos(F, G)| <= 2 / M.",
        hypotheses="norm(F), norm(G) <= M",
        status="false as stated",
        fault="The inequality points the wrong way: the shorter F, the longer the gradient.",
        gist="|grad| = sin(angle) / |F| <= 1/m",
        truth="|grad_F cos(F, G)| = sin(angle between F and G) / |F| <= 1 / m.",
        conditions="norm(F) >= m > 0",
        why="With unit vectors f, g: grad = (g - <f, g> f) / |F|, the part of g across f, whose norm is sin / "
        "|F|.",
        sharp="Reached where F and G are at right angles and |F| = m.",
        meaning="The cosine asks nothing of a frame that agrees with its neighbour, nor of one that opposes it.",
        counterexample=similarity.short_frame,
        check=_sharp_cosine,
    ),
    Statement(
        ids=("C.3", "4.3"),
        title="The loss has a bounded and Lipschitz gradient",
        claim="|grad L_temp| <= 8 (T-2) / (M (T-1)), and the gradient is Lipschitz with constant 16 / M.",
        hypotheses="norm(F_t) <= M",
        status="false as stated",
        fault="A bounded gradient makes the loss Lipschitz, not the gradient. L_temp does not change when all "
        "features are scaled, so its gradient must scale as 1/m and the gradient's constant as 1/m^2. "
        "(With m in the place of M the first bound would hold, up to T times too large.)",
        gist="per frame |grad| <= 8.98 / ((T-1) m); Lipschitz with L = 32 / ((T-1) m^2)",
        truth="|grad_F_t L_temp| <= 8.977 / ((T-1) m) for each frame; the gradient is Lipschitz with L = 32 / "
        "((T-1) m^2) along straight ways that keep norm(F_t) >= m, and with pi/2 L between any two clips "
        "of norms >= m.",
        conditions="norm(F_t) >= m > 0, T >= 3; features of 2 or more numbers",
        why="Let s_t = cos(a_t), r_t = sin(a_t), w_t = 2 s_t - s_t-1 - s_t+1 (at the ends a single "
        "difference): dL/ds_t = 2 w_t / (T-1). Gradient: frame t feels at most 2 / ((T-1) |F_t|) (|w_t-1| "
        "r_t-1 + |w_t| r_t), and the bracket is largest where both neighbours stand symmetrically: 3 "
        "sin(2a) + 2 sin(a), with its maximum at cos(a) = (sqrt(73) - 1) / 12. Curvature, first for unit "
        "norms: the Hessian is 2 / (T-1) (J'D'DJ + sum w_t H_t), J the derivative of s, H_t the Hessian of "
        "s_t, whose norm is 1 + |s_t| <= 2. Downwards only sum w_t H_t counts: |w_t| <= 4, and a frame "
        "belongs to two pairs, hence -16. Upwards |DJx|^2 <= sum of (2 r_t^2 + r_t-1^2 + r_t+1^2) (J_t "
        "x)^2 / r_t^2 (Cauchy-Schwarz), so that each pair stands alone with 2 x 2 blocks, whose "
        "eigenvalues are at most 8: hence +16. Frames of other norms divide rows and columns of the "
        "Hessian by them. Around a ball a way is at most pi/2 times longer than straight through it.",
        sharp="Gradient: reached from T = 5 on (4 instead of 8.977 for T = 3, 6.507 for T = 4). Curvature: "
        "approached as T grows, at frames that agree and oppose in turn (12, 20.9, 25.8, 28.1, 30.1 "
        "instead of 32 for T = 3, 4, 5, 6, 8).",
        meaning="The largest safe step on features is measured from their smallest norm.",
        design="The earlier derivation has 16 and 64: true, but 1.8 and 2 times too large. Its constants multiply "
        "bounds that cannot be reached together (a steep cosine is never an extreme one).",
        counterexample=similarity.turned_frame,
        check=_steep_and_curved,
    ),
    Statement(
        ids=("C.4", "4.4"),
        title="Gradient descent lowers the loss to a local minimum",
        claim="With a step 0 < eta < 2 / L, L = 16 / M, L_temp falls at every step, and the limit is a local "
        "minimum.",
        hypotheses="norm(F_t) <= M; the update is that of the model's parameters",
        status="false as stated",
        fault="L is not a Lipschitz constant (C.3); the update follows the total loss through the parameters, "
        "and smooth in F is not smooth in them; and a limit of gradient descent can be a maximum.",
        gist="on the features, eta < 2 / L: L_temp never rises, to a critical point",
        truth="Descent on the features, with L = 32 / ((T-1) m^2) and 0 < eta < 2 / L: L_temp never rises; the "
        "smallest of K squared gradients is at most L_temp(0) / (K eta (1 - eta L / 2)); norms never "
        "shrink, their squares grow by at most eta L_temp(0) / (1 - eta L / 2) together; the clip "
        "converges, to a critical point.",
        conditions="m is the smallest norm at the start; updates of the features themselves, without momentum",
        why="The gradient is at right angles to F_t (the cosine ignores length), so |F_t - r g|^2 = |F_t|^2 + "
        "r^2 |g|^2 for 0 <= r <= eta: the whole step stays where L is valid, and the descent lemma gives "
        "L_temp' <= L_temp - eta (1 - eta L/2) |g|^2. Summed up, that bounds the gradients and, by the "
        "same identity, the norms. The loss is analytic there, so a bounded path that descends this much "
        "converges (Lojasiewicz; Absil, Mahony and Andrews, 2005).",
        sharp="Nothing better than a critical point can be promised: a start at the maximum stays there.",
        meaning="It says nothing about LoRA weights; what training does to L_temp has to be measured.",
        design="The earlier derivation leaves open whether there is a limit, and has no bound on the norms; both "
        "follow.",
        counterexample=similarity.overshooting_step,
        check=_descent,
    ),
    Statement(
        ids=("C.5", "4.5"),
        title="The loss is convex in the similarities",
        claim="L_temp = norm(D s)^2 / (T-1) is convex in s = (s_1 .. s_T-1), with D a second-order difference.",
        hypotheses="none",
        status="holds in part",
        fault="D is the first difference. The loss is not strictly convex: it does not see constants. And convex "
        "in s is not convex in the features, nor in parameters.",
        gist="L_temp = |D s|^2 / (T-1), D the first difference; convex in s alone",
        truth="L_temp = norm(D s)^2 / (T-1), D the (T-2) x (T-1) first difference: convex in s, zero exactly "
        "where all s_t are equal.",
        conditions="s as free variables in [-1, 1]",
        why="A squared norm of a linear map is convex; the kernel of D are the constants.",
        sharp="An identity.",
        meaning="Every even motion is a minimum, fast or slow; no minimum is preferred.",
        counterexample=similarity.not_convex_in_features,
        check=_form_and_convexity,
    ),
    Statement(
        ids=("R.1",),
        title="Less of the loss is not more likeness",
        claim="Lowering L_temp makes adjacent frames more alike.",
        hypotheses="the reading that the papers give it",
        status="false as stated",
        fault="L_temp makes similarities equal to each other; it does not raise them.",
        gist="L_temp = 0 where all similarities are equal, be they -1",
        truth="L_temp = 0 exactly where s_1 = s_2 = ... = s_T-1, whatever that number is, -1 included.",
        conditions="T >= 3",
        why="It is a sum of squared differences of neighbouring similarities.",
        sharp="Frames +v, -v, +v, ... have no loss and similarity -1: the worst flicker there is.",
        meaning="The adapter needs a loss that also compares with the source's own similarities; `source-anchored` "
        "is one.",
        counterexample=similarity.worst_flicker,
        check=lambda: tuple(similarity.even_motion(angle) for angle in ANGLES),
    ),
    Statement(
        ids=("R.2",),
        title="The sum needs a frame 0, and the weights change sides",
        claim="Eq. 4 sums (s_t - s_t-1)^2 over t = 1 .. T-1; eq. 6 weighs the losses 1 (temporal) and 0.01 "
        "(diffusion).",
        hypotheses="frames 1 .. T",
        status="false as stated",
        fault="s_0 needs a frame 0. And the training loss of eq. 19 weighs the other way round.",
        gist="T-2 interior frames; both weights are settings",
        truth="L_temp sums over the T-2 interior frames and divides by T-1; both weights are settings.",
        conditions="T >= 3; of two frames it is 0",
        why="s_t belongs to frames t and t+1, so the differences that exist are those of t = 2 .. T-1.",
        sharp="An identity.",
        meaning="One weighting asks 10,000 times more for the temporal loss than the other; a study must say which "
        "it used.",
        counterexample=similarity.frame_zero,
        check=lambda: (
            similarity.quadratic_form(draw(3, 4, seed=6)),
            similarity.quadratic_form(draw(9, 4, seed=7)),
        ),
    ),
)

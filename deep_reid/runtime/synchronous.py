"""Synchronous training: the gradients of all members of a cluster make one update."""

from collections.abc import Iterable

from deep_reid.runtime.compat import tf


class SynchronousOptimizer(tf.train.Optimizer):
    """Updates the weights with the mean of the gradients of all members [1]_.

    Like TensorFlow's ``SyncReplicasOptimizer``, it collects gradients in accumulators on the
    servers, which drop those of earlier rounds. It differs in what happens at the edges. The chief
    makes the update in its own step instead of a thread, so nothing is left waiting after its last
    step. Each round takes one batch of each member, also the first one. A round is no step of the
    run: it also ends when the chief starts again, so gradients of weights that were replaced by
    those of a checkpoint count no more.

    Parameters
    ----------
    optimizer : tf.train.Optimizer
        Applies the mean.
    num_members : int
    own_round : tf.Tensor of int64, shape ()
        The round that this member computes gradients of.
    is_chief : bool
        Whether this member makes the updates.

    References
    ----------
    .. [1] J. Chen, X. Pan, R. Monga, S. Bengio, R. Jozefowicz: Revisiting Distributed Synchronous
       SGD. ICLR 2016 workshop, arXiv:1604.00981.
    """

    def __init__(
        self,
        optimizer: tf.train.Optimizer,
        num_members: int,
        own_round: tf.Tensor,
        is_chief: bool,
    ) -> None:
        super().__init__(use_locking=False, name="synchronous")
        self._optimizer = optimizer
        self._num_members = num_members
        self._own_round = own_round
        self._is_chief = is_chief
        self._started_round = tf.placeholder(tf.int64, ())
        self._num_late = tf.placeholder(tf.int32, ())
        self._start_ops, self._count_ops, self._drop_ops = [], [], []

    def compute_gradients(self, *args: object, **kwargs: object) -> list[tuple]:
        """Compute the gradients of this member; as of the optimizer that applies them."""
        return self._optimizer.compute_gradients(*args, **kwargs)

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[tf.Tensor | None, tf.Variable]],
        global_step: tf.Variable | None = None,
        name: str | None = None,
    ) -> tf.Operation:
        """Send the gradients to the servers; as the chief, wait for all of them and apply the mean.

        Parameters
        ----------
        grads_and_vars, global_step, name
            As in ``tf.train.Optimizer``.

        Returns
        -------
        tf.Operation
        """
        pairs = [pair for pair in grads_and_vars if pair[0] is not None]
        accumulators = [self._create_accumulator(variable) for _, variable in pairs]
        sent = tf.group(*[
            accumulator.apply_grad(gradient, local_step=self._own_round)
            for accumulator, (gradient, _) in zip(accumulators, pairs, strict=True)
        ])  # fmt: skip
        if not self._is_chief:
            return sent
        with tf.control_dependencies([sent]):
            means = [accumulator.take_grad(self._num_members) for accumulator in accumulators]
        # No weight changes before all can: a chief that waits for a member can still be saved.
        with tf.control_dependencies([tf.group(*means)]):
            variables = [variable for _, variable in pairs]
            return self._optimizer.apply_gradients(
                zip(means, variables, strict=True), global_step, name
            )

    def start(self, session: tf.Session, number: int) -> None:
        """Start a round: drop gradients of earlier ones. To be called by the chief.

        Parameters
        ----------
        session : tf.Session
        number : int
            Greater than that of any earlier round.
        """
        session.run(self._start_ops, {self._started_round: number})
        # Late gradients are dropped from now on; those that had arrived are taken away.
        counts = session.run(self._count_ops)
        for count, drop in zip(counts, self._drop_ops, strict=True):
            if count:
                session.run(drop, {self._num_late: count})
        session.run(self._start_ops, {self._started_round: number})  # taking them counts rounds

    def _create_accumulator(self, variable):
        with tf.device(variable.device):
            accumulator = tf.ConditionalAccumulator(
                variable.dtype.base_dtype,
                variable.get_shape(),
                shared_name=f"{variable.op.name}/gradient",
            )
            if self._is_chief:
                self._start_ops.append(accumulator.set_global_step(self._started_round))
                self._count_ops.append(accumulator.num_accumulated())
                self._drop_ops.append(accumulator.take_grad(self._num_late).op)
        return accumulator

"""Health of real servers: probes ask, a state machine judges, a policy says what that means.

Four hops, as in the rest of kernlb: a probe gives a ``Result`` with one named outcome
(``outcome``, ``probes``); the state machine of one check of one server turns results into a
condition (``fsm``, ``damping``); the policy of a service turns the conditions of its servers into
opinions (``policy``); ``intent`` turns opinions into what the kernel should hold. No probe and no
policy ever writes the kernel. ``monitor`` is the only part with a clock and an event loop.
"""

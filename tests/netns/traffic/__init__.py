"""What clients see of a service, whatever the datapath: the same stories told of IPVS and of XDP.

`balancer` and `daemon` drive; `shares` says who answers whom. The tests in `staying` and `changing`
are run by each datapath's test_traffic, with its own fixture `balancer`.
"""

"""The same packets and the same changes given to IPVS and to XDP, and what each makes of them."""

"""A real server made fit for `dsr` or `tunnel`, looked at, and put back as it was.

    wish (what the operator asked for)  +  host (what is there)
                     |
        wanted: slots of the host with the value each should have          pure
                     |
        plan: changes, from what is there or was recorded to what is wanted pure
                     |
        record (what was before, on disk)  ->  kernel (the changes, one by one)

A slot is one thing of a host that has a value: a sysctl, an address on a device, a file. Rules:

* what was before is on disk before anything changes, so that `remove` can always put it back;
* nothing is put back that somebody else changed since: it is left, and said;
* a change that fails takes those before it back;
* no daemon: the kernel holds the result, and a unit of systemd makes it again after a boot.
"""

"""Ships a spool to a collector: in the background of a training, or by ``xtrack sync``. spec: DLV-6, DLV-8

``Lane`` is one stream on its way, ``Link`` one connection, ``Shipper`` what goes on over many of them, ``Sender`` a
shipper in a thread of its own. All of it reads the spool behind its writer; none of it is ever waited for by a call
that logs.
"""

"""One small driver a peer; each speaks the protocol of ``protocol.py`` or ``bullmq.mjs``."""

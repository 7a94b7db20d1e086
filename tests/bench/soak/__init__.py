"""`conv-realtime up` under load for half an hour: does anything grow, is anything lost?"""

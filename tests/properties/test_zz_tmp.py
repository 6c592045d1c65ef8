import json, pickle
from hypothesis import given
from properties.budget import budget
from properties.worlds import worlds
from properties.test_promises import attempt
from oracle.stores import *
def test_tmp(servers):
    out=[]
    # same draws as the module: same function name matters for derandomize; print everything
    def explore(drawn):
        t=attempt(servers,*drawn); out.append(t)
        print("=====",t.title(), t.ran.code)
        for l in t.found: print("  ",l)
        for l in t.ledger: print("   L",l)
        j=t.ran.json
        for s,v in j["scopes"].items():
            d=t.dry.json["scopes"][s]
            print("   ",s,"fail",v["failures"],"run",v["disposed"],"dry",d["disposed"])
        pickle.dump((t.world,t.as_of),open(f"/tmp/oracle/w{len(out)}.pkl","wb"))
    explore.__qualname__="trials.<locals>.explore"
    budget(5)(given(worlds())(explore))()
